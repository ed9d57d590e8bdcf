"""ModelServers and EndpointSlices, as the API server sends them, read into what is served.

Tolerant: what an object lacks, or says in a way that is not known here, is as if it were not said.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from modelserver_runtime.gateway.cluster.directory import (
    Address,
    HoldBounds,
    ServedModel,
    ServerKey,
)

type Json = Mapping[str, Any]

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
    scaling = _part(status, "scaling")
    revision = str(status.get("servingRevision") or "")
    ready, starting = _addresses(key, revision, list(slices))
    artifact = _part(status, "artifact")
    return ServedModel(
        key=key,
        names=tuple(dict.fromkeys(_names(key, spec))),
        created=str(item["metadata"].get("creationTimestamp") or ""),
        task=str(_part(spec, "model").get("task") or ""),
        revision=revision,
        ready=ready,
        starting=starting,
        holder_port=_whole(scaling.get("holderPort")),
        phase=str(_part(scaling, "zero").get("phase") or ""),
        fetched_percent=_whole(artifact.get("downloadPercent")),
        artifact_phase=str(artifact.get("phase") or ""),
        cold_start_seconds=_number(scaling.get("coldStartSeconds")),
        timeout_seconds=_number(_part(spec, "runtime").get("requestTimeoutSeconds")) or 120.0,
        problem=_problem(status),
        hold=_hold(_part(_part(spec, "autoscaling"), "zero"), default),
    )


def _names(key: ServerKey, spec: Json) -> Iterator[str]:
    model = _part(spec, "model")
    yield str(model.get("servedName") or key.name)
    yield from map(str, model.get("aliases") or ())
    for extra in spec.get("extraModels") or ():
        yield str(extra.get("name"))
        yield from map(str, extra.get("aliases") or ())


def _hold(zero: Json, default: HoldBounds) -> HoldBounds:
    return HoldBounds(
        max_requests=_whole(zero.get("maxHeldRequests")) or default.max_requests,
        max_bytes=_whole(zero.get("maxHeldBytes")) or default.max_bytes,
        max_seconds=_number(zero.get("maxHoldSeconds")) or default.max_seconds,
    )


def _problem(status: Json) -> str:
    """A server that waits for a person answers nobody who waits for it."""
    for condition in status.get("conditions") or ():
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


def _endpoints(slices: Iterable[Json], kind: Literal["ready", "starting"]) -> tuple[Address, ...]:
    return tuple(sorted({one for item in slices for one in _of_slice(item, kind)}))


def _of_slice(item: Json, kind: str) -> Iterator[Address]:
    port = next((one for one in item.get("ports") or () if one.get("name") == _PORT_NAME), None)
    number = _whole(port.get("port")) if port else None
    if number is None:
        return
    for endpoint in item.get("endpoints") or ():
        if _kind(endpoint.get("conditions") or {}) == kind:
            yield from (Address(str(host), number) for host in endpoint.get("addresses") or ())


def _kind(conditions: Json) -> str:
    if conditions.get("terminating"):
        return "ending"
    # "nil should be interpreted as true", says its API.
    return "ready" if conditions.get("ready") in {None, True} else "starting"


def _part(item: Json, name: str) -> Json:
    part = item.get(name)
    return part if isinstance(part, Mapping) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(float(value), _LONGEST_TIMEOUT_SECONDS) if is_number and value > 0 else None
