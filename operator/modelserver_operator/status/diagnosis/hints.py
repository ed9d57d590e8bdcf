"""What to do about the end of a container, with the names of what to look at."""

from collections.abc import Callable, Mapping

from modelserver_operator.apis.model import ModelSource
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources.containers import FETCH_EXTRA
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.containers import ContainerState

type Hint = Callable[[ModelServer, ContainerState], str]


def hint_of(code: Code, server: ModelServer, container: ContainerState) -> str:
    return _HINTS[code](server, container)


def _model_of(server: ModelServer, container: ContainerState) -> tuple[ModelSource, str]:
    """The model that a container fetches or serves, and where the spec names it."""
    for model in server.spec.extra_models:
        if container.name == f"{FETCH_EXTRA}{model.name}":
            return model, f"spec.extraModels[{model.name}]"
    return server.spec.model, "spec.model"


def _auth(server: ModelServer, container: ContainerState) -> str:
    model, field = _model_of(server, container)
    if model.credentials is None:
        return (
            f"Create a Secret in namespace {server.namespace} with a token that may read"
            f" {model.location}, and name it in {field}.credentials.secretRef"
        )
    secret = model.credentials.secret_ref
    return (
        f"Look at key {secret.key} of Secret {secret.name} in namespace {server.namespace}"
        f" ({field}.credentials.secretRef): its token must be valid, may read {model.location},"
        " and belong to an account that has accepted the model's licence"
    )


def _unreachable(server: ModelServer, _container: ContainerState) -> str:
    return (
        f"Check that pods of namespace {server.namespace} reach the hub (DNS, proxy, network"
        " policies of others, MODELSERVER_OPERATOR_HUB_ENDPOINT of the operator); it is tried again"
    )


def _refused(server: ModelServer, container: ContainerState) -> str:
    model, _ = _model_of(server, container)
    return (
        "Choose a model or revision with safetensors weights; if you trust"
        f" {model.uri}, set spec.model.allowPickle or spec.model.trustRemoteCode"
    )


def _not_found(server: ModelServer, container: ContainerState) -> str:
    model, field = _model_of(server, container)
    if model.is_from_hub:
        return (
            f"Check {field}.uri ({model.uri}) and {field}.revision"
            f" ({model.revision or 'empty: main'})"
        )
    if model.is_on_claim:
        folder = f"/{model.path_in_claim}"
        return f"Check that claim {model.claim} holds the model in folder {folder} ({field}.uri)"
    return f"Check that the image holds the model in {model.location} ({field}.uri)"


def _corrupt(server: ModelServer, container: ContainerState) -> str:
    model, field = _model_of(server, container)
    if model.is_from_hub:
        return f"It is fetched again; if that does not help, set {field}.revision to another commit"
    return f"Copy the model to {model.uri} again and compare the checksums"


def _unsupported(server: ModelServer, _container: ContainerState) -> str:
    return (
        f"Choose another model, another spec.model.task (now {server.spec.model.task}), or engine"
        " Custom with an image that serves it"
    )


def _disk_full(server: ModelServer, _container: ContainerState) -> str:
    return (
        f"Raise {_limit(server, 'ephemeral-storage')}, or request as much of it as the model needs,"
        " so that the pod gets a node with enough space"
    )


def _out_of_memory(server: ModelServer, container: ContainerState) -> str:
    return (
        f"Raise {_limit(server, 'memory')} for container {container.name}, set spec.runtime.dtype"
        f" to a smaller type (now {server.spec.runtime.dtype}), or serve a smaller model"
    )


def _load_timeout(server: ModelServer, container: ContainerState) -> str:
    return (
        f"Give it more CPU ({_request(server, 'cpu')}) or a faster volume, serve a smaller model,"
        " or allow more time: --load-timeout-seconds in spec.runtime.args, and failureThreshold of"
        f" the startupProbe of container {container.name} in spec.podTemplate.spec"
    )


def _configuration(_server: ModelServer, container: ContainerState) -> str:
    return (
        "Correct spec.runtime.args, spec.runtime.env or what spec.podTemplate sets for container"
        f" {container.name}"
    )


def _crash(server: ModelServer, container: ContainerState) -> str:
    return (
        f"Read its log: kubectl logs -n {server.namespace} {container.pod} -c {container.name}"
        " --previous"
    )


def _limit(server: ModelServer, resource: str) -> str:
    amount = server.spec.resources.limits.get(resource)
    return f"spec.resources.limits.{resource} ({_now(amount)})"


def _request(server: ModelServer, resource: str) -> str:
    amount = server.spec.resources.requests.get(resource)
    return f"spec.resources.requests.{resource}, {_now(amount)}"


def _now(amount: int | str | None) -> str:
    return "not set" if amount is None else f"now {amount}"


_HINTS: Mapping[Code, Hint] = {
    Code.ARTIFACT_AUTH: _auth,
    Code.ARTIFACT_UNREACHABLE: _unreachable,
    Code.ARTIFACT_REFUSED: _refused,
    Code.ARTIFACT_NOT_FOUND: _not_found,
    Code.ARTIFACT_CORRUPT: _corrupt,
    Code.UNSUPPORTED_MODEL: _unsupported,
    Code.DISK_FULL: _disk_full,
    Code.OUT_OF_MEMORY: _out_of_memory,
    Code.LOAD_TIMEOUT: _load_timeout,
    Code.INVALID_CONFIGURATION: _configuration,
    Code.RUNTIME_CRASH: _crash,
}
