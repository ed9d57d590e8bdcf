"""ModelServers and EndpointSlices, as the API server sends them, read into what is served.

Tolerant: what an object lacks, or says in a way that is not known here, is as if it were not said.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from modelserver_runtime.gateway.cluster.directory import (
    Address,
    HoldBounds,
    ServedModel,
    ServerKey,
)
from modelserver_runtime.gateway.cluster.report_reading import read_report
from modelserver_runtime.gateway.cluster.values import Json, number, part, parts, whole

SERVER_LABEL = "modelserver.dev/server"
SERVICE_LABEL = "kubernetes.io/service-name"
# The holder's own slices are managed by the operator: requests are never sent in a circle.
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_CONTROLLER = "endpointslice-controller.k8s.io"
_PORT_NAME = "http"
_LONGEST_TIMEOUT_SECONDS = 86_400.0


def key_of(item: Json) -> ServerKey:
    metadata = item["metadata"]
    return ServerKey(str(metadata["namespace"]), str(metadata["name"]))


def server_of_slice(item: Json) -> ServerKey | None:
    metadata = item["metadata"]
    name = (metadata.get("labels") or {}).get(SERVER_LABEL)
    return ServerKey(str(metadata["namespace"]), str(name)) if name else None


def read_server(item: Json, slices: Iterable[Json], default: HoldBounds) -> ServedModel:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    key = key_of(item)
    scaling = part(status, "scaling")
    revision = str(status.get("servingRevision") or "")
    ready, starting = _addresses(key, revision, list(slices))
    artifact = part(status, "artifact")
    return ServedModel(
        key=key,
        names=tuple(dict.fromkeys(_names(key, spec))),
        created=str(item["metadata"].get("creationTimestamp") or ""),
        task=str(part(spec, "model").get("task") or ""),
        revision=revision,
        ready=ready,
        starting=starting,
        holder_port=whole(scaling.get("holderPort")),
        phase=str(part(scaling, "zero").get("phase") or ""),
        fetched_percent=whole(artifact.get("downloadPercent")),
        artifact_phase=str(artifact.get("phase") or ""),
        cold_start_seconds=_seconds(scaling, "coldStartSeconds"),
        timeout_seconds=_seconds(part(spec, "runtime"), "requestTimeoutSeconds") or 120.0,
        problem=_problem(status),
        has_keys=bool(part(spec, "access").get("apiKeys")),
        hold=_hold(part(part(spec, "autoscaling"), "zero"), default),
        report=read_report(spec, status),
    )


def _names(key: ServerKey, spec: Json) -> Iterator[str]:
    model = part(spec, "model")
    yield str(model.get("servedName") or key.name)
    yield from map(str, model.get("aliases") or ())
    for extra in spec.get("extraModels") or ():
        yield str(extra.get("name"))
        yield from map(str, extra.get("aliases") or ())


def _hold(zero: Json, default: HoldBounds) -> HoldBounds:
    return HoldBounds(
        max_requests=whole(zero.get("maxHeldRequests")) or default.max_requests,
        max_bytes=whole(zero.get("maxHeldBytes")) or default.max_bytes,
        max_seconds=_seconds(zero, "maxHoldSeconds") or default.max_seconds,
    )


def _problem(status: Json) -> str:
    """A server that waits for a person answers nobody who waits for it."""
    for condition in parts(status, "conditions"):
        if condition.get("type") == "Stalled" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason") or "Stalled")
    return ""


def _addresses(
    key: ServerKey, revision: str, slices: list[Json]
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """Ready and starting ones: of the root Service, which leads where the operator divides traffic.

    While it leads nowhere, as when its router has gone to sleep, those of the serving revision.
    """
    root = [one for one in slices if _service(one) == key.name]
    own = [one for one in slices if _service(one) == f"{key.name}-{revision}"]
    ready = _endpoints(root, "ready") or _endpoints(own, "ready")
    starting = set(_endpoints(own, "starting")) | set(_endpoints(root, "starting"))
    return ready, tuple(sorted(starting - set(ready)))


def _service(item: Json) -> str:
    labels = item["metadata"].get("labels") or {}
    return str(labels.get(SERVICE_LABEL)) if labels.get(_MANAGED_BY) == _CONTROLLER else ""


def ready_addresses(item: Json) -> tuple[Address, ...]:
    """Of one EndpointSlice."""
    return _endpoints([item], "ready")


def _endpoints(slices: Iterable[Json], kind: Literal["ready", "starting"]) -> tuple[Address, ...]:
    return tuple(sorted({one for item in slices for one in _of_slice(item, kind)}))


def _of_slice(item: Json, kind: str) -> Iterator[Address]:
    port = next((one for one in item.get("ports") or () if one.get("name") == _PORT_NAME), None)
    listening = whole(port.get("port")) if port else None
    if listening is None:
        return
    for endpoint in item.get("endpoints") or ():
        if _kind(endpoint.get("conditions") or {}) == kind:
            yield from (Address(str(host), listening) for host in endpoint.get("addresses") or ())


def _kind(conditions: Json) -> str:
    if conditions.get("terminating"):
        return "ending"
    # "nil should be interpreted as true", says its API.
    return "ready" if conditions.get("ready") in {None, True} else "starting"


def _seconds(item: Json, name: str) -> float | None:
    return number(item.get(name), _LONGEST_TIMEOUT_SECONDS)
