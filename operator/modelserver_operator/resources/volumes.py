"""The volumes of a model's pods, and where its containers find them."""

from collections.abc import Iterator
from typing import Any

from modelserver_operator.apis.model import ExtraModel, ModelSource
from modelserver_operator.resources.revision import ServedSpec

MODEL_DIRECTORY = "/model"
MODEL_VOLUME = "model"
EXTRA_MODELS_DIRECTORY = "/models"
TEMPORARY_DIRECTORY = "/tmp"  # noqa: S108  a volume of the pod's own
TEMPORARY_VOLUME = "tmp"
KEYS_DIRECTORY = "/etc/modelserver/keys"
KEYS_VOLUME = "api-keys"

type Volume = dict[str, Any]
type Mount = dict[str, Any]


def directory_of(model: ModelSource) -> str:
    """Where a model's files are for the containers."""
    if model.is_file:
        return model.location
    if isinstance(model, ExtraModel):
        return f"{EXTRA_MODELS_DIRECTORY}/{model.name}"
    return MODEL_DIRECTORY


def make_volumes(served: ServedSpec) -> list[Volume]:
    models = [_model_volume(one) for one in _with_volume(served.model, *served.extra_models)]
    return [*models, *_keys_volume(served), {"name": TEMPORARY_VOLUME, "emptyDir": {}}]


def server_mounts(served: ServedSpec) -> list[Mount]:
    """Read-only, all of them."""
    models = [model_mount(one) for one in _with_volume(served.model, *served.extra_models)]
    return [mount | {"readOnly": True} for mount in [*models, *_keys_mount(served)]]


def model_mount(model: ModelSource) -> Mount:
    mount = {"name": volume_of(model), "mountPath": directory_of(model)}
    return mount | {"subPath": model.path_in_claim} if model.path_in_claim else mount


def _with_volume(*models: ModelSource) -> Iterator[ModelSource]:
    """A file:// is in the image itself."""
    return (model for model in models if not model.is_file)


def volume_of(model: ModelSource) -> str:
    return f"{MODEL_VOLUME}-{model.name}" if isinstance(model, ExtraModel) else MODEL_VOLUME


def _model_volume(model: ModelSource) -> Volume:
    if model.is_on_claim:
        claim = {"claimName": model.claim, "readOnly": True}
        return {"name": volume_of(model), "persistentVolumeClaim": claim}
    return {"name": volume_of(model), "emptyDir": {}}


def _keys_volume(served: ServedSpec) -> list[Volume]:
    if served.access is None or served.access.api_keys is None:
        return []
    secret = {"secretName": served.access.api_keys.secret_ref.name}
    return [{"name": KEYS_VOLUME, "secret": secret}]


def _keys_mount(served: ServedSpec) -> list[Mount]:
    """The whole directory: with a subPath, the kubelet would never show a change of the Secret."""
    return [
        {"name": volume["name"], "mountPath": KEYS_DIRECTORY} for volume in _keys_volume(served)
    ]
