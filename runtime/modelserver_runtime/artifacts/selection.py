"""Decides which files of a repository are fetched."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelserver_runtime.artifacts.source import ArtifactPolicy
from modelserver_runtime.errors import ArtifactRefused, UnsupportedModel

CONFIG = "config.json"
SAFETENSORS = ".safetensors"

# What a model, its tokenizer and its processor are loaded from, beside the weights.
_CONFIGURATION = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".yaml", ".yml")
_DOCUMENTS = ("readme.md", "license", "license.md", "license.txt", "notice", "notice.txt")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# The same weights for other programs, and what training leaves behind.
_OTHER_FOLDERS = re.compile(
    r"onnx|openvino|coreml|gguf|ggml|flax|tf|tflite|original|metal|mlx|runs|logs|checkpoint-.*|global_step.*|\..*"
)
_TRAINING_STATE = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state.*|random_states.*)\.\w+"
    r"|(trainer_state|\w+_results)\.json"
)
# `model.fp16.safetensors` and `consolidated.00.safetensors` repeat what `model.safetensors` has.
_VARIANT = re.compile(r".+\.(fp16|bf16|fp32|int8|fp8|non_ema)(-\d+-of-\d+)?\.(safetensors|bin)")
_CONSOLIDATED = re.compile(r"consolidated.*\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of one commit; `sha256` if large, else `git_blob`, git's SHA-1 of the blob."""

    path: str
    size: int
    sha256: str = ""
    git_blob: str = ""


def select(
    files: Iterable[RemoteFile], *, policy: ArtifactPolicy, repository: str
) -> tuple[RemoteFile, ...]:
    """The files to fetch, in the order of their paths; raises if they would not make a model."""
    candidates = [file for file in files if _is_candidate(file.path)]
    for file in candidates:
        _require_safe_path(file.path, repository)
    _require_config(candidates, repository)
    weights = _weights(candidates, policy, repository)
    others = [file for file in candidates if _is_configuration(file.path, policy)]
    return tuple(sorted([*weights, *others], key=lambda file: file.path))


def _is_candidate(path: str) -> bool:
    *folders, name = path.split("/")
    is_elsewhere = any(
        _OTHER_FOLDERS.fullmatch(folder.lower()) for folder in folders if folder != ".."
    )
    return not is_elsewhere and not _TRAINING_STATE.fullmatch(name.lower())


def _require_safe_path(path: str, repository: str) -> None:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ArtifactRefused(
            f"{repository} holds a file named {path!r}, which leads out of the model's directory",
            hint="Do not use this repository, and tell its owner.",
        )


def _require_config(files: Sequence[RemoteFile], repository: str) -> None:
    if not any(file.path == CONFIG for file in files):
        raise UnsupportedModel(
            f"{repository} holds no {CONFIG} at its top, so it is no model for transformers",
            hint="Use a repository in the format of transformers, not one of GGUF, ONNX or adapter "
            "files alone.",
        )


def _weights(
    files: Sequence[RemoteFile], policy: ArtifactPolicy, repository: str
) -> list[RemoteFile]:
    """The top folder decides what the repository is; folders below hold parts, such as poolers."""
    folders: dict[str, list[RemoteFile]] = {"": []}
    for file in files:
        folders.setdefault(file.path.rpartition("/")[0], []).append(file)
    _require_weights(folders[""], policy, repository)
    return [file for members in folders.values() for file in _preferred(members, policy)]


def _require_weights(files: Sequence[RemoteFile], policy: ArtifactPolicy, repository: str) -> None:
    if any(file.path.endswith(SAFETENSORS) for file in files):
        return
    pickles = [file.path for file in files if file.path.endswith(PICKLES)]
    if not pickles:
        raise UnsupportedModel(
            f"{repository} holds no *{SAFETENSORS} weights beside its {CONFIG}",
            hint="Use a repository with safetensors weights; other formats are not loaded.",
        )
    if not policy.allow_pickle:
        raise refused_pickle(repository, pickles[0])


def refused_pickle(where: str, path: str) -> ArtifactRefused:
    return ArtifactRefused(
        f"{where} holds weights as pickle only ({path}); loading a pickle can run any code",
        hint="Use a repository or revision with *.safetensors files, or convert the weights.",
    )


def _preferred(files: Sequence[RemoteFile], policy: ArtifactPolicy) -> list[RemoteFile]:
    safe = [file for file in files if file.path.endswith(SAFETENSORS)]
    if safe or not policy.allow_pickle:
        return _without_duplicates(safe)
    return _without_duplicates([file for file in files if file.path.endswith(PICKLES)])


def _without_duplicates(weights: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Drops variants of weights that are there in their plain form too."""
    plain = [file for file in weights if not _is_variant(file.path)]
    return plain or list(weights)


def _is_variant(path: str) -> bool:
    name = PurePosixPath(path).name
    return bool(_VARIANT.fullmatch(name) or _CONSOLIDATED.fullmatch(name))


def _is_configuration(path: str, policy: ArtifactPolicy) -> bool:
    name = PurePosixPath(path).name.lower()
    if name.endswith(".py"):
        return policy.trust_remote_code
    return name.endswith(_CONFIGURATION) or name in _DOCUMENTS
