"""`spec.model` and `spec.extraModels`: which models are served, and under which names."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from modelserver_operator.apis.types import (
    DNS_LABEL,
    LIST_SET,
    ApiModel,
    DataKey,
    ObjectName,
    Rule,
    unique,
)

HUB = "hf://"
CLAIM = "pvc://"
FILE = "file://"

COMMIT = re.compile(r"[0-9a-f]{40}")
_URI = (
    r"^(hf://[A-Za-z0-9][-A-Za-z0-9_.]*/[A-Za-z0-9][-A-Za-z0-9_.]*"
    r"|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[-A-Za-z0-9_.+@=]+)*"
    r"|file://(/[-A-Za-z0-9_.+@=]+)+)$"
)
_DOTS = r"(^|/)[.]{1,2}(/|$)"
_SERVED_NAME = r"^[A-Za-z0-9]([-A-Za-z0-9_.:/]*[A-Za-z0-9])?$"


class Task(StrEnum):
    """What the model is asked to do: every task that comes with the runtime."""

    AUTO = "Auto"
    TEXT_GENERATION = "TextGeneration"
    EMBEDDINGS = "Embeddings"
    TEXT_CLASSIFICATION = "TextClassification"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105  no secret: a token of text
    ZERO_SHOT_CLASSIFICATION = "ZeroShotClassification"
    FILL_MASK = "FillMask"
    SUMMARIZATION = "Summarization"
    TRANSLATION = "Translation"
    TEXT_TO_TEXT_GENERATION = "TextToTextGeneration"
    QUESTION_ANSWERING = "QuestionAnswering"
    TABLE_QUESTION_ANSWERING = "TableQuestionAnswering"
    DOCUMENT_QUESTION_ANSWERING = "DocumentQuestionAnswering"
    FEATURE_EXTRACTION = "FeatureExtraction"
    SENTENCE_SIMILARITY = "SentenceSimilarity"
    IMAGE_CLASSIFICATION = "ImageClassification"
    ZERO_SHOT_IMAGE_CLASSIFICATION = "ZeroShotImageClassification"
    OBJECT_DETECTION = "ObjectDetection"
    ZERO_SHOT_OBJECT_DETECTION = "ZeroShotObjectDetection"
    IMAGE_SEGMENTATION = "ImageSegmentation"
    MASK_GENERATION = "MaskGeneration"
    DEPTH_ESTIMATION = "DepthEstimation"
    KEYPOINT_MATCHING = "KeypointMatching"
    IMAGE_FEATURE_EXTRACTION = "ImageFeatureExtraction"
    IMAGE_TEXT_TO_TEXT = "ImageTextToText"
    VIDEO_CLASSIFICATION = "VideoClassification"
    AUDIO_CLASSIFICATION = "AudioClassification"
    ZERO_SHOT_AUDIO_CLASSIFICATION = "ZeroShotAudioClassification"
    SPEECH_RECOGNITION = "SpeechRecognition"
    TEXT_TO_AUDIO = "TextToAudio"
    ANY_TO_ANY = "AnyToAny"
    DECISION = "Decision"


class DataType(StrEnum):
    """The type of weights in memory."""

    AUTO = "Auto"
    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"
    FLOAT16 = "Float16"
    INT8 = "Int8"


ONLY_FOR_TEXT = (
    "dtype Int8 is for text that is generated: set task to TextGeneration or Auto, or another dtype"
)


def takes_type(task: Task, dtype: DataType) -> bool:
    return dtype is not DataType.INT8 or task in {Task.AUTO, Task.TEXT_GENERATION}


# Part of the names of a container and a volume, which have at most 63 characters.
ExtraName = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=DNS_LABEL)]


class SecretReference(ApiModel):
    name: ObjectName
    """Name of a Secret in the ModelServer's namespace."""
    key: DataKey = "token"
    """Key in the Secret's data that holds the token."""


class Credentials(ApiModel):
    secret_ref: SecretReference
    """The Secret that holds the hub's token. Only what fetches the model gets it, never the
    server."""


def _takes_revision(model: "ModelSource") -> bool:
    return not model.revision or model.is_from_hub


def _takes_credentials(model: "ModelSource") -> bool:
    return model.credentials is None or model.is_from_hub


def _remote_code_is_pinned(model: "Model") -> bool:
    pinned = not model.is_from_hub or bool(COMMIT.fullmatch(model.revision))
    return not model.trust_remote_code or pinned


Uri = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512),
    Field(examples=["hf://Qwen/Qwen3-0.6B", "pvc://models/chat", "file:///opt/model"]),
]
HubRevision = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^([A-Za-z0-9][-A-Za-z0-9_./]*)?$")
]
Aliases = Annotated[
    tuple[
        Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_SERVED_NAME)],
        ...,
    ],
    Field(max_length=16, json_schema_extra=LIST_SET),
    unique(),
]


class ModelSource(ApiModel):
    """Where a model is: what the model of a server and its extra models have in common."""

    uri: Uri
    """Where the model is. `hf://organisation/name` fetches a repository of the Hugging Face hub;
    `pvc://claim` or `pvc://claim/path` mounts a PersistentVolumeClaim of this namespace,
    read-only; `file:///path` is a folder inside the runtime's image, for development: the
    operator must allow it."""
    revision: HubRevision = ""
    """Branch, tag or commit of an `hf://` model; empty means `main`. A name is resolved to a
    commit once, and the pods of a revision never change their weights; a new value makes a new
    revision."""
    credentials: Credentials | None = None
    """The hub's token, for gated and private repositories."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"self.uri.matches(r'{_URI}')",
            holds=lambda model: re.search(_URI, model.uri) is not None,
            message=(
                "uri must be hf://organisation/name, pvc://claim[/path] or file:///path,"
                " for example hf://Qwen/Qwen3-0.6B"
            ),
            field_path=".uri",
        ),
        Rule(
            cel=f"!self.uri.substring(self.uri.indexOf('://') + 3).matches(r'{_DOTS}')",
            holds=lambda model: re.search(_DOTS, model.uri.partition("://")[2]) is None,
            message="uri must not contain . or .. as a path segment; write the path itself",
            field_path=".uri",
        ),
        Rule(
            cel="!has(self.revision) || self.revision == '' || self.uri.startsWith('hf://')",
            holds=_takes_revision,
            message="revision is only for hf:// models; remove it",
            field_path=".revision",
        ),
        Rule(
            cel="!has(self.credentials) || self.uri.startsWith('hf://')",
            holds=_takes_credentials,
            message="credentials are only for hf:// models; remove them",
            field_path=".credentials",
        ),
    )

    @property
    def is_from_hub(self) -> bool:
        return self.uri.startswith(HUB)

    @property
    def is_on_claim(self) -> bool:
        return self.uri.startswith(CLAIM)

    @property
    def is_file(self) -> bool:
        return self.uri.startswith(FILE)

    @property
    def location(self) -> str:
        """What comes after the scheme: repository, `claim/path`, or absolute path."""
        return self.uri.partition("://")[2]

    @property
    def claim(self) -> str:
        """The PersistentVolumeClaim of a `pvc://`."""
        return self.location.partition("/")[0] if self.is_on_claim else ""

    @property
    def path_in_claim(self) -> str:
        return self.location.partition("/")[2] if self.is_on_claim else ""


class Model(ModelSource):
    task: Task = Task.AUTO
    """What the model does. `Auto` reads it from the model's own configuration. A task of a package
    that the image adds is named by `--task` in `runtime.args`."""
    served_name: Annotated[
        str, StringConstraints(max_length=128, pattern=rf"^$|{_SERVED_NAME}")
    ] = ""
    """What clients write as `model` in a request; empty means the ModelServer's name."""
    aliases: Aliases = ()
    """More names under which clients may ask for the model."""
    allow_pickle: bool = False
    """Allow weights in Python's pickle format when a repository has no safetensors. Loading a
    pickle can run code, so it is refused unless this is true. Holds for extra models too."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. For `hf://` the revision must then be a commit
    of 40 hexadecimal characters, so that the code cannot change under you. Holds for extra models
    too."""

    rules = (
        *ModelSource.rules,
        Rule(
            cel=(
                "!self.trustRemoteCode || !self.uri.startsWith('hf://')"
                " || (has(self.revision) && self.revision.matches('^[0-9a-f]{40}$'))"
            ),
            holds=_remote_code_is_pinned,
            message=(
                "trustRemoteCode requires a pinned revision: set revision to the commit,"
                " 40 hexadecimal characters"
            ),
            field_path=".revision",
        ),
    )


Commit = Annotated[str, StringConstraints(max_length=40, pattern=r"^[0-9a-f]{40}$")]


def _is_uri(model: "ModelOverlay") -> bool:
    uri = model.uri or f"{FILE}/x"
    return re.search(_URI, uri) is not None and not re.search(_DOTS, uri.partition("://")[2])


class ModelOverlay(ApiModel):
    """Another model in the place of the one that is served; what is absent stays as it is."""

    uri: Uri | None = None
    """Where its model is, as in `spec.model.uri`."""
    revision: Commit | None = None
    """Commit of an `hf://` model, 40 hexadecimal characters."""

    rules = (
        Rule(
            cel="has(self.uri) || has(self.revision)",
            holds=lambda model: model.uri is not None or model.revision is not None,
            message="the model of a variant must have uri, revision or both; remove it otherwise",
        ),
        Rule(
            cel=(
                f"!has(self.uri) || self.uri.matches(r'{_URI}') &&"
                f" !self.uri.substring(self.uri.indexOf('://') + 3).matches(r'{_DOTS}')"
            ),
            holds=_is_uri,
            message=(
                "uri must be hf://organisation/name, pvc://claim[/path] or file:///path, without"
                " . or .. as a path segment"
            ),
            field_path=".uri",
        ),
        Rule(
            cel=f"!has(self.uri) || self.uri.startsWith('{HUB}') == has(self.revision)",
            holds=lambda model: (
                model.uri is None or model.uri.startswith(HUB) == (model.revision is not None)
            ),
            message=(
                "a variant with a model of the hub requires revision, the commit of 40 hexadecimal"
                " characters; one with another model takes none"
            ),
            field_path=".revision",
        ),
    )


class Named(ApiModel):
    """Puts the name first, as people write it."""

    name: ExtraName
    """What clients write as `model` in a request."""


class ExtraModel(ModelSource, Named):
    revision: HubRevision = ""
    """Commit of an `hf://` model, 40 hexadecimal characters. Branches and tags are resolved for
    `spec.model` only."""
    aliases: Aliases = ()
    """More names under which clients may ask for the model."""
    task: Task = Task.AUTO
    """What the model does. `Auto` reads it from the model's own configuration."""
    dtype: DataType = DataType.AUTO
    """Type in which its weights are kept, as `spec.runtime.dtype`."""

    rules = (
        *ModelSource.rules,
        Rule(
            cel="self.dtype != 'Int8' || self.task in ['Auto', 'TextGeneration']",
            holds=lambda model: takes_type(model.task, model.dtype),
            message=ONLY_FOR_TEXT,
            field_path=".dtype",
        ),
        Rule(
            cel=(
                "!self.uri.startsWith('hf://')"
                " || (has(self.revision) && self.revision.matches('^[0-9a-f]{40}$'))"
            ),
            holds=lambda model: not model.is_from_hub or bool(COMMIT.fullmatch(model.revision)),
            message=(
                "an extra model of the hub requires a pinned revision: set revision to the commit,"
                " 40 hexadecimal characters"
            ),
            field_path=".revision",
        ),
    )

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


def have_different_names(models: Sequence[ExtraModel]) -> bool:
    names = [name for model in models for name in model.names]
    return len(set(names)) == len(names)
