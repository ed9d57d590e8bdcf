"""Checks of containers that cannot start: images, Secrets, ConfigMaps, the node's own rules."""

import re

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.containers import ContainerState
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.wording import clean

_PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
# The kubelet alternates between an error and the back-off after it; both have the same cause.
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?')
_ERROR = re.compile(r"^(Err\w+: )?(rpc error: code = \w+ desc = )?")
_SECRET = re.compile(r'[Ss]ecret "?([^\s"]+)"?')
_CONFIG_MAP = re.compile(r'[Cc]onfig[Mm]ap "?([^\s"]+)"?')
_KEY = re.compile(r"couldn't find key (\S+) in")
_SUB_PATH = re.compile(r"subPath|sub path", re.IGNORECASE)


def image_pull(evidence: Evidence) -> Diagnosis | None:
    for container in evidence.containers():
        if container.waiting_reason in _PULL_REASONS:
            return _image_pull(evidence, container)
    return None


def _image_pull(evidence: Evidence, container: ContainerState) -> Diagnosis:
    without_back_off = _BACK_OFF.sub("", container.waiting_message)
    cause = clean(_ERROR.sub("", without_back_off)) or container.waiting_reason
    is_own = evidence.server.spec.runtime.image == container.image
    where = (
        "spec.runtime.image"
        if is_own
        else "the operator's setting MODELSERVER_OPERATOR_RUNTIME_IMAGE, or spec.podTemplate"
    )
    return finding(
        Code.IMAGE_PULL,
        f"The image {container.image} of container {container.name} cannot be pulled: {cause}",
        f"Check the image in {where}, and that nodes reach its registry; a private registry needs"
        " imagePullSecrets in spec.podTemplate.spec.",
    )


def configuration_missing(evidence: Evidence) -> Diagnosis | None:
    """CreateContainerConfigError: something that the container refers to is not there."""
    for container in evidence.containers():
        if container.waiting_reason == "CreateContainerConfigError":
            return _configuration(evidence, container, clean(container.waiting_message))
    return None


def _configuration(evidence: Evidence, container: ContainerState, cause: str) -> Diagnosis:
    if _SUB_PATH.search(cause):
        return _no_such_path(evidence, cause)
    for pattern, code, kind in (
        (_CONFIG_MAP, Code.CONFIG_MAP_MISSING, "ConfigMap"),
        (_SECRET, Code.SECRET_MISSING, "Secret"),
    ):
        if match := pattern.search(cause):
            return _missing(evidence, code, f"{kind} {match[1].rpartition('/')[2]}", cause)
    return finding(
        Code.POD_REFUSED,
        f"The node refuses to start container {container.name}: {cause}",
        "Use an image that runs as a user other than root, by number, or set securityContext in"
        " spec.podTemplate.spec.",
    )


def _missing(evidence: Evidence, code: Code, what: str, cause: str) -> Diagnosis:
    key = _KEY.search(cause)
    with_key = f" with key {key[1]}" if key else ""
    return finding(
        code,
        f"The pod cannot start without {what}: {cause}",
        f"Create {what}{with_key} in namespace {evidence.server.namespace}, or correct"
        f" {_field_that_names(evidence, what)}; the pod then starts by itself.",
    )


def _field_that_names(evidence: Evidence, what: str) -> str:
    credentials = evidence.server.spec.model.credentials
    if credentials and what == f"Secret {credentials.secret_ref.name}":
        return "spec.model.credentials.secretRef"
    return "spec.runtime.env or spec.podTemplate"


def _no_such_path(evidence: Evidence, cause: str) -> Diagnosis:
    claim, _, path = evidence.server.spec.model.location.partition("/")
    return finding(
        Code.ARTIFACT_NOT_FOUND,
        f"Folder {path} cannot be mounted from claim {claim}: {cause}",
        f"Copy the model to {path} in claim {claim}, or correct spec.model.uri"
        f" ({evidence.server.spec.model.uri}).",
    )
