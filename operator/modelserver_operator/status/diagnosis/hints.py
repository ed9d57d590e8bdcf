"""What to do about the end of a container, with the names of what to look at."""

from collections.abc import Callable, Mapping

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.containers import ContainerState

type Hint = Callable[[ModelServer, ContainerState], str]


def hint_of(code: Code, server: ModelServer, container: ContainerState) -> str:
    return _HINTS[code](server, container)


def _auth(server: ModelServer, _container: ContainerState) -> str:
    model, credentials = server.spec.model, server.spec.model.credentials
    if credentials is None:
        return (
            f"Create a Secret in namespace {server.namespace} with a token that may read"
            f" {model.location}, and name it in spec.model.credentials.secretRef"
        )
    secret = credentials.secret_ref
    return (
        f"Look at key {secret.key} of Secret {secret.name} in namespace {server.namespace}"
        f" (spec.model.credentials.secretRef): its token must be valid, may read {model.location},"
        " and belong to an account that has accepted the model's licence"
    )


def _unreachable(server: ModelServer, _container: ContainerState) -> str:
    return (
        f"Check that pods of namespace {server.namespace} reach the hub (DNS, proxy, network"
        " policies of others, MODELSERVER_OPERATOR_HUB_ENDPOINT of the operator); it is tried again"
    )


def _refused(server: ModelServer, _container: ContainerState) -> str:
    return (
        "Choose a model or revision with safetensors weights; if you trust"
        f" {server.spec.model.uri}, set spec.model.allowPickle or spec.model.trustRemoteCode"
    )


def _not_found(server: ModelServer, _container: ContainerState) -> str:
    model = server.spec.model
    if model.is_from_hub:
        return (
            f"Check spec.model.uri ({model.uri}) and spec.model.revision"
            f" ({model.revision or 'empty: main'})"
        )
    if model.is_on_claim:
        claim, _, path = model.location.partition("/")
        return f"Check that claim {claim} holds the model in folder /{path} (spec.model.uri)"
    return f"Check that the image holds the model in {model.location} (spec.model.uri)"


def _corrupt(server: ModelServer, _container: ContainerState) -> str:
    model = server.spec.model
    if model.is_from_hub:
        return (
            "It is fetched again; if that does not help, set spec.model.revision to another commit"
        )
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
