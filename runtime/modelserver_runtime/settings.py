"""Every setting of the runtime: read once from MODELSERVER_* variables and command-line flags."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from modelserver_runtime.errors import InvalidConfiguration

PREFIX = "MODELSERVER_"


class Task(StrEnum):
    """What a model is served for; the names are those of `spec.model.task`."""

    AUTO = "Auto"
    TEXT_GENERATION = "TextGeneration"
    EMBEDDINGS = "Embeddings"
    TEXT_CLASSIFICATION = "TextClassification"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105  a task, not a secret
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


class Dtype(StrEnum):
    """The type of the weights in memory; the names are those of `spec.runtime.dtype`."""

    AUTO = "Auto"
    FLOAT32 = "Float32"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    model_uri: str = Field(
        "", description="hf://ORGANISATION/NAME, pvc://CLAIM/PATH or file:///PATH"
    )
    model_revision: str = Field(
        "", description="commit of the model (resolve: branch, tag or commit)"
    )
    model_directory: Path = Field(Path("/model"), description="directory of the model's files")
    allow_pickle: bool = Field(
        default=False, description="load pickle weights, which can run code of their author"
    )
    trust_remote_code: bool = Field(
        default=False, description="run Python code that comes with the model"
    )
    hub_endpoint: str = Field("https://huggingface.co", description="base URL of the hub")
    hf_token: str | None = Field(
        None,
        validation_alias="HF_TOKEN",
        repr=False,
        description="token for private models of the hub",
    )

    name: str = Field("", description="label `model` of the metrics; default: the served name")
    revision: str = Field(
        "local", description="revision of the ModelServer: label of the metrics, x-model-revision"
    )
    served_name: str = Field(
        "", description="name of the model in the API; default: the directory's name"
    )
    aliases: tuple[str, ...] = Field(
        (), description="more names of the model in the API, a JSON list"
    )
    task: Task = Field(
        Task.AUTO, description="what the model is served for; Auto reads its config.json"
    )
    dtype: Dtype = Field(
        Dtype.AUTO, description="type of the weights in memory; Auto keeps the model's own"
    )
    max_model_length: Annotated[int, Field(ge=0)] = Field(
        0,
        description="longest prompt and answer together, in tokens; 0: what the model was made for",
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8080, description="port to listen on; 0: any free one"
    )
    request_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        120, description="longest time for one request, waiting included; then 504"
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="after SIGTERM: longest time for the requests that are being answered"
    )
    lame_duck_seconds: Annotated[float, Field(ge=0)] = Field(
        5,
        description="after SIGTERM: time in which new requests are still answered",
    )
    load_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        1800, description="longest time for loading and warm-up; then exit code 49"
    )
    step_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="a step of the model that takes longer makes /livez fail"
    )

    max_running_sequences: Annotated[int, Field(ge=1)] = Field(
        32, description="answers that are generated at the same time"
    )
    max_waiting: Annotated[int, Field(ge=0)] = Field(
        100, description="answers or inputs that wait for their turn; beyond it 429"
    )
    max_batch_tokens: Annotated[int, Field(ge=16)] = Field(
        2048, description="tokens that one step computes at most; longer prompts take several steps"
    )
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        32, description="inputs that are computed together, for tasks other than TextGeneration"
    )
    default_max_tokens: Annotated[int, Field(ge=0)] = Field(
        4096, description="longest answer of a chat that does not say; 0: what the model can hold"
    )
    max_list_items: Annotated[int, Field(ge=1)] = Field(
        2048, description="inputs or prompts of one request; beyond it 400"
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        32 << 20, description="size of a request; beyond it 413"
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads that compute; 0: the CPU limit of the container, rounded down"
    )
    termination_log: Path = Field(
        Path("/dev/termination-log"), description="file for the last message, one JSON object"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="what is logged"
    )

    @property
    def api_name(self) -> str:
        """The model's name in the API."""
        return self.served_name or self.name or self.model_directory.name or "model"

    @property
    def metrics_name(self) -> str:
        return self.name or self.api_name

    @property
    def api_names(self) -> tuple[str, ...]:
        return (self.api_name, *self.aliases)


def load_settings(**flags: Any) -> Settings:
    """Flags win over the environment; every wrong value becomes a sentence."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise InvalidConfiguration(
            "; ".join(_sentences(error, flags)), hint="Correct the values and start again."
        ) from error
    except SettingsError as error:
        raise InvalidConfiguration(
            f"{error}: a list is written as JSON", hint='Write for example ["a", "b"].'
        ) from error


def _sentences(error: ValidationError, flags: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or "settings"
        name = _spelling(field, is_flag=field in flags)
        yield f"{name} is {problem['input']!r}: {problem['msg']}"


def _spelling(field: str, *, is_flag: bool) -> str:
    return flag_of(field) if is_flag else variable_of(field)


def flag_of(field: str) -> str:
    return "--" + field.replace("_", "-")


def variable_of(field: str) -> str:
    """The environment variable of a field."""
    return "HF_TOKEN" if field in {"hf_token", "HF_TOKEN"} else PREFIX + field.upper()
