"""Checks of containers that cannot start: images, Secrets, ConfigMaps, the node's own rules."""

import re

from modelserver_operator.apis.model import ModelSource
from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.apis.v1alpha1 import ModelServerSpec
from modelserver_operator.resources.volumes import volume_of
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.containers import ContainerState
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.diagnosis.references import missing_reference
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
    if (missing := missing_reference(evidence, cause)) is not None:
        return missing
    return finding(
        Code.POD_REFUSED,
        f"The node refuses to start container {container.name}: {cause}",
        "Use an image that runs as a user other than root, by number, or set securityContext in"
        " spec.podTemplate.spec.",
    )


def _no_such_path(evidence: Evidence, cause: str) -> Diagnosis:
    model, field = _model_at(evidence.server.spec, cause)
    return finding(
        Code.ARTIFACT_NOT_FOUND,
        f"Folder {model.path_in_claim} cannot be mounted from claim {model.claim}: {cause}",
        f"Copy the model to {model.path_in_claim} in claim {model.claim}, or correct {field}.uri"
        f" ({model.uri}).",
    )


def _model_at(spec: ModelServerSpec, cause: str) -> tuple[ModelSource, str]:
    """The model whose mount the kubelet names, and where the spec names it."""
    for model in spec.extra_models:
        if f'"{volume_of(model)}"' in cause:
            return model, f"spec.extraModels[{model.name}]"
    return spec.model, "spec.model"
