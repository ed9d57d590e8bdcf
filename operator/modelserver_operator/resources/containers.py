"""The containers of a model's pods: what fetches, what serves, and what resolves a revision."""

import json
from collections.abc import Mapping
from typing import Any

from modelserver_operator.apis.model import ExtraModel, Model, ModelSource
from modelserver_operator.apis.quantity import canonical_quantity
from modelserver_operator.apis.runtime import Engine, EnvironmentVariable, Resources
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.serving import Environment, request_environment, variable
from modelserver_operator.resources.volumes import (
    TEMPORARY_DIRECTORY,
    TEMPORARY_VOLUME,
    directory_of,
    model_mount,
    server_mounts,
)

SERVER = "server"
FETCH = "fetch"
FETCH_EXTRA = "fetch-model-"  # and the name of the extra model
RESOLVE = "resolve"

PORT = 8080
PORT_NAME = "http"

DEFAULT_HUB_REVISION = "main"

# The budget for loading and warming up, after fetching: half an hour is enough to read some
# hundred GB from a slow volume. Looked at every 2 s so that a small model is not kept waiting.
STARTUP_PERIOD_SECONDS = 2
STARTUP_BUDGET_SECONDS = 1800

PRE_STOP_SECONDS = 5  # for kube-proxies to learn that the pod ends, before it is told

RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

# Resolving asks one question over HTTP.
RESOLVE_RESOURCES: Mapping[str, Any] = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}

type Container = dict[str, Any]


def make_server_container(server_name: str, namespace: str, revision: Revision) -> Container:
    served = revision.served
    arguments = [] if served.engine is Engine.CUSTOM else ["serve"]
    return _container(
        name=SERVER,
        image=revision.server_image,
        arguments=[*arguments, *served.runtime.args],
        env=server_environment(server_name, namespace, revision),
        resources=_quantities(served.resources),
        mounts=server_mounts(served),
    ) | {
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        **_probes(served.engine),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
    }


def make_fetch_containers(server_name: str, revision: Revision) -> list[Container]:
    """One after the other: a container for each model that comes over the network."""
    served = revision.served
    return [
        _make_fetch_container(server_name, revision, model)
        for model in (served.model, *served.extra_models)
        if model.is_from_hub
    ]


def _make_fetch_container(server_name: str, revision: Revision, model: ModelSource) -> Container:
    return _container(
        name=f"{FETCH_EXTRA}{model.name}" if isinstance(model, ExtraModel) else FETCH,
        image=revision.fetch_image,
        arguments=["fetch"],
        env=fetch_environment(server_name, revision, model),
        resources=_without_devices(_quantities(revision.served.resources)),
        mounts=[model_mount(model)],
    )


def does_fetch(container: str) -> bool:
    """Whether a container of this name brings a model."""
    return container == FETCH or container.startswith(FETCH_EXTRA)


def make_resolve_container(
    server_name: str, model: Model, *, image: str, hub_endpoint: str
) -> Container:
    return _container(
        name=RESOLVE,
        image=image,
        arguments=["resolve"],
        env=[
            *_common_environment(server_name, "", model, model.revision or DEFAULT_HUB_REVISION),
            *_hub_environment(model, hub_endpoint),
        ],
        resources=dict(RESOLVE_RESOURCES),
        mounts=[],
    )


def _container(
    *,
    name: str,
    image: str,
    arguments: list[str],
    env: Environment,
    resources: dict[str, Any],
    mounts: list[dict[str, Any]],
) -> Container:
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "env": env,
        "resources": resources,
        "volumeMounts": [*mounts, {"name": TEMPORARY_VOLUME, "mountPath": TEMPORARY_DIRECTORY}],
        "securityContext": dict(RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {key: value for key, value in container.items() if value not in ([], {})}


def _boolean(*, value: bool) -> str:
    return "true" if value else "false"


def _common_environment(
    server_name: str, revision: str, model: ModelSource, model_revision: str
) -> Environment:
    variables = {
        "HOME": TEMPORARY_DIRECTORY,  # the only folder that libraries may write to
        "MODELSERVER_NAME": server_name,
        "MODELSERVER_REVISION": revision,
        "MODELSERVER_MODEL_URI": model.uri,
        "MODELSERVER_MODEL_REVISION": model_revision,
        "MODELSERVER_HOST": "0.0.0.0",  # noqa: S104  the pod's own network
        "MODELSERVER_PORT": str(PORT),
    }
    return [variable(name, value) for name, value in variables.items() if value]


def _model_environment(server_name: str, revision: Revision, model: ModelSource) -> Environment:
    """What is allowed for the model of the server is allowed for all."""
    primary = revision.served.model
    commit = revision.commit if model is primary else model.revision
    return [
        *_common_environment(server_name, revision.name, model, commit),
        variable("MODELSERVER_MODEL_DIRECTORY", directory_of(model)),
        variable("MODELSERVER_ALLOW_PICKLE", _boolean(value=primary.allow_pickle)),
        variable("MODELSERVER_TRUST_REMOTE_CODE", _boolean(value=primary.trust_remote_code)),
    ]


def _hub_environment(model: ModelSource, endpoint: str) -> Environment:
    variables: Environment = [variable("MODELSERVER_HUB_ENDPOINT", endpoint)]
    if model.credentials is not None:
        secret = model.credentials.secret_ref
        source = {"secretKeyRef": {"name": secret.name, "key": secret.key}}
        variables.append({"name": "HF_TOKEN", "valueFrom": source})
    return variables


def fetch_environment(server_name: str, revision: Revision, model: ModelSource) -> Environment:
    return [
        *_model_environment(server_name, revision, model),
        *_hub_environment(model, revision.pins.hub_endpoint),
    ]


def server_environment(server_name: str, namespace: str, revision: Revision) -> Environment:
    """Ours, then the user's; a name of both is the user's (ours begin with MODELSERVER_)."""
    ours = [
        *_model_environment(server_name, revision, revision.served.model),
        *_serving_environment(server_name, revision),
        *request_environment(server_name, namespace, revision.served),
    ]
    theirs = [_user_variable(variable) for variable in revision.served.runtime.env]
    names = {variable["name"] for variable in theirs}
    return [variable for variable in ours if variable["name"] not in names] + theirs


def _serving_environment(server_name: str, revision: Revision) -> Environment:
    model, runtime = revision.served.model, revision.served.runtime
    variables = {
        "MODELSERVER_SERVED_NAME": model.served_name or server_name,
        "MODELSERVER_ALIASES": json.dumps(model.aliases),
        "MODELSERVER_TASK": str(model.task),
        "MODELSERVER_DTYPE": str(runtime.dtype),
        "MODELSERVER_MAX_MODEL_LENGTH": str(runtime.max_model_length),
        "MODELSERVER_REQUEST_TIMEOUT_SECONDS": str(runtime.request_timeout_seconds),
        "MODELSERVER_DRAIN_SECONDS": str(runtime.drain_seconds),
    }
    return [variable(name, value) for name, value in variables.items()]


def _user_variable(variable: EnvironmentVariable) -> dict[str, Any]:
    dumped: dict[str, Any] = variable.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _quantities(resources: Resources) -> dict[str, Any]:
    amounts = {"requests": resources.requests, "limits": resources.limits}
    return {
        kind: {name: canonical_quantity(amount) for name, amount in given.items()}
        for kind, given in amounts.items()
        if given
    }


def _without_devices(resources: dict[str, Any]) -> dict[str, Any]:
    """Fetching needs what the namespace's quota asks every container to name, but no GPU."""
    plain = {
        kind: {name: amount for name, amount in given.items() if "/" not in name}
        for kind, given in resources.items()
    }
    return {kind: given for kind, given in plain.items() if given}


def _probes(engine: Engine) -> dict[str, Any]:
    """Generous: a busy model must not be killed, and the runtime itself notices a stuck one."""
    custom = engine is Engine.CUSTOM
    startup, ready, alive = ("/health",) * 3 if custom else ("/startupz", "/readyz", "/livez")
    failures = STARTUP_BUDGET_SECONDS // STARTUP_PERIOD_SECONDS
    return {
        "startupProbe": _probe(
            startup, period=STARTUP_PERIOD_SECONDS, timeout=2, failures=failures
        ),
        "readinessProbe": _probe(ready, period=2, timeout=5, failures=3),
        "livenessProbe": _probe(alive, period=10, timeout=10, failures=6),
    }


def _probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
