"""`spec.model`: which model is served, under which names, and what it may do."""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.types import LIST_SET, ApiModel, DataKey, ObjectName, Rule, unique

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
    """What the model is asked to do: the pipelines of transformers, and embeddings."""

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
    FEATURE_EXTRACTION = "FeatureExtraction"
    SENTENCE_SIMILARITY = "SentenceSimilarity"
    IMAGE_CLASSIFICATION = "ImageClassification"
    ZERO_SHOT_IMAGE_CLASSIFICATION = "ZeroShotImageClassification"
    OBJECT_DETECTION = "ObjectDetection"
    AUDIO_CLASSIFICATION = "AudioClassification"
    SPEECH_RECOGNITION = "SpeechRecognition"


class SecretReference(ApiModel):
    name: ObjectName
    """Name of a Secret in the ModelServer's namespace."""
    key: DataKey = "token"
    """Key in the Secret's data that holds the token."""


class Credentials(ApiModel):
    secret_ref: SecretReference
    """The Secret that holds the hub's token. Only what fetches the model gets it, never the
    server."""


def _takes_revision(model: "Model") -> bool:
    return not model.revision or model.is_from_hub


def _takes_credentials(model: "Model") -> bool:
    return model.credentials is None or model.is_from_hub


def _remote_code_is_pinned(model: "Model") -> bool:
    pinned = not model.is_from_hub or bool(COMMIT.fullmatch(model.revision))
    return not model.trust_remote_code or pinned


class Model(ApiModel):
    uri: Annotated[
        str,
        StringConstraints(min_length=1, max_length=512),
        Field(examples=["hf://Qwen/Qwen3-0.6B", "pvc://models/chat", "file:///opt/model"]),
    ]
    """Where the model is. `hf://organisation/name` fetches a repository of the Hugging Face hub;
    `pvc://claim` or `pvc://claim/path` mounts a PersistentVolumeClaim of this namespace,
    read-only; `file:///path` is a folder inside the runtime's image, for development: the
    operator must allow it."""
    revision: Annotated[
        str, StringConstraints(max_length=128, pattern=r"^([A-Za-z0-9][-A-Za-z0-9_./]*)?$")
    ] = ""
    """Branch, tag or commit of an `hf://` model; empty means `main`. A name is resolved to a
    commit once, and the pods of a revision never change their weights; a new value makes a new
    revision."""
    task: Task = Task.AUTO
    """What the model does. `Auto` reads it from the model's own configuration."""
    served_name: Annotated[
        str, StringConstraints(max_length=128, pattern=rf"^$|{_SERVED_NAME}")
    ] = ""
    """What clients write as `model` in a request; empty means the ModelServer's name."""
    aliases: Annotated[
        tuple[
            Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_SERVED_NAME)],
            ...,
        ],
        Field(max_length=16, json_schema_extra=LIST_SET),
        unique(),
    ] = ()
    """More names under which clients may ask for the model."""
    credentials: Credentials | None = None
    """The hub's token, for gated and private repositories."""
    allow_pickle: bool = False
    """Allow weights in Python's pickle format when a repository has no safetensors. Loading a
    pickle can run code, so it is refused unless this is true."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. For `hf://` the revision must then be a commit
    of 40 hexadecimal characters, so that the code cannot change under you."""

    rules = (
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
