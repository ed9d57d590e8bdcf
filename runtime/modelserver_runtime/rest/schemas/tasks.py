"""Bodies of /predict and /batch-predict: what each task takes and gives."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from modelserver_runtime.rest.schemas.errors import ErrorDetail
from modelserver_runtime.rest.schemas.fields import Answer, RequestBody
from modelserver_runtime.settings import Task

_MOST_LABELS = 100
_MOST_SENTENCES = 1000

type Text = Annotated[str, Field(min_length=1)]


def _decode(value: Any) -> Any:
    """Bytes of a base64 text or a data URL; bytes that came as a body pass."""
    if not isinstance(value, str):
        return value
    content = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError(
            "must be base64 (URLs are not fetched); or send the file itself as the body, "
            "with its own Content-Type"
        ) from error


type Media = Annotated[
    bytes, BeforeValidator(_decode, json_schema_input_type=str), Field(min_length=1)
]


class Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPair(Input):
    text: Text
    text_pair: Text


class QuestionInput(Input):
    question: Text
    context: Text


class SimilarityInput(Input):
    source_sentence: Text
    sentences: Annotated[list[Text], Field(min_length=1, max_length=_MOST_SENTENCES)]


class NoParameters(RequestBody):
    pass


class ClassificationParameters(RequestBody):
    """`top_k` is how many labels are wanted: without it, all."""

    top_k: Annotated[int | None, Field(ge=1)] = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class TokenClassificationParameters(RequestBody):
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    ignore_labels: list[str] | None = None


class ZeroShotParameters(RequestBody):
    candidate_labels: Annotated[list[Text], Field(min_length=1, max_length=_MOST_LABELS)]
    multi_label: bool | None = None
    hypothesis_template: str | None = None

    @model_validator(mode="after")
    def _require_place(self) -> "ZeroShotParameters":
        if self.hypothesis_template is not None and "{}" not in self.hypothesis_template:
            raise ValueError("hypothesis_template must contain {} where the label goes")
        return self


class ImageLabelsParameters(RequestBody):
    candidate_labels: Annotated[list[Text], Field(min_length=1, max_length=_MOST_LABELS)]


class FillMaskParameters(RequestBody):
    top_k: Annotated[int | None, Field(ge=1, le=1000)] = None
    targets: Annotated[list[Text] | None, Field(min_length=1, max_length=_MOST_LABELS)] = None


class TextToTextParameters(RequestBody):
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    min_new_tokens: Annotated[int | None, Field(ge=0)] = None
    num_beams: Annotated[int | None, Field(ge=1, le=16)] = None
    length_penalty: float | None = None
    no_repeat_ngram_size: Annotated[int | None, Field(ge=0)] = None


class TranslationParameters(TextToTextParameters):
    source_language: str | None = None
    target_language: str | None = None


class QuestionParameters(RequestBody):
    top_k: Annotated[int, Field(ge=1, le=20)] = 1
    max_answer_length: Annotated[int, Field(ge=1, le=512)] = 30


class DetectionParameters(RequestBody):
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5


class SpeechParameters(RequestBody):
    return_timestamps: bool | Literal["word", "char"] | None = None


class Label(Answer):
    label: str
    score: float


class Entity(Answer):
    """`entity_group` with an aggregation strategy, `entity` and `index` without one."""

    entity_group: str | None = None
    entity: str | None = None
    index: int | None = None
    score: float
    word: str
    start: int | None
    end: int | None


class ZeroShotAnswer(Answer):
    sequence: str
    labels: list[str]
    scores: list[float]


class Filled(Answer):
    sequence: str
    score: float
    token: int
    token_str: str


class Summary(Answer):
    summary_text: str


class Translation(Answer):
    translation_text: str


class GeneratedText(Answer):
    generated_text: str


class Span(Answer):
    answer: str
    score: float
    start: int
    end: int


class Box(Answer):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class DetectedObject(Answer):
    label: str
    score: float
    box: Box


class SpokenChunk(Answer):
    text: str
    timestamp: tuple[float | None, float | None]


class Transcript(Answer):
    text: str
    chunks: list[SpokenChunk] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSchema:
    inputs: Any
    parameters: type[RequestBody]
    answer: Any
    is_media: bool = False

    @property
    def inputs_adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.inputs)


TASK_SCHEMAS: Mapping[Task, TaskSchema] = {
    Task.TEXT_CLASSIFICATION: TaskSchema(
        inputs=Text | TextPair, parameters=ClassificationParameters, answer=list[Label]
    ),
    Task.TOKEN_CLASSIFICATION: TaskSchema(
        inputs=Text, parameters=TokenClassificationParameters, answer=list[Entity]
    ),
    Task.ZERO_SHOT_CLASSIFICATION: TaskSchema(
        inputs=Text, parameters=ZeroShotParameters, answer=ZeroShotAnswer
    ),
    Task.FILL_MASK: TaskSchema(
        inputs=Text, parameters=FillMaskParameters, answer=list[Filled] | list[list[Filled]]
    ),
    Task.SUMMARIZATION: TaskSchema(inputs=Text, parameters=TextToTextParameters, answer=Summary),
    Task.TRANSLATION: TaskSchema(inputs=Text, parameters=TranslationParameters, answer=Translation),
    Task.TEXT_TO_TEXT_GENERATION: TaskSchema(
        inputs=Text, parameters=TextToTextParameters, answer=GeneratedText
    ),
    Task.QUESTION_ANSWERING: TaskSchema(
        inputs=QuestionInput, parameters=QuestionParameters, answer=Span | list[Span]
    ),
    Task.FEATURE_EXTRACTION: TaskSchema(
        inputs=Text, parameters=NoParameters, answer=list[list[float]]
    ),
    Task.SENTENCE_SIMILARITY: TaskSchema(
        inputs=SimilarityInput, parameters=NoParameters, answer=list[float]
    ),
    Task.IMAGE_CLASSIFICATION: TaskSchema(
        inputs=Media, parameters=ClassificationParameters, answer=list[Label], is_media=True
    ),
    Task.ZERO_SHOT_IMAGE_CLASSIFICATION: TaskSchema(
        inputs=Media, parameters=ImageLabelsParameters, answer=list[Label], is_media=True
    ),
    Task.OBJECT_DETECTION: TaskSchema(
        inputs=Media, parameters=DetectionParameters, answer=list[DetectedObject], is_media=True
    ),
    Task.AUDIO_CLASSIFICATION: TaskSchema(
        inputs=Media, parameters=ClassificationParameters, answer=list[Label], is_media=True
    ),
    Task.SPEECH_RECOGNITION: TaskSchema(
        inputs=Media, parameters=SpeechParameters, answer=Transcript, is_media=True
    ),
}


class PredictEnvelope(RequestBody):
    """What every task's body has in common; the inputs are judged by the task's own schema.

    Without `model` the server's own one is meant.
    """

    model: str | None = None
    inputs: Any
    parameters: dict[str, Any] = Field(default_factory=dict)


class BatchEnvelope(RequestBody):
    model: str | None = None
    inputs: Annotated[list[Any], Field(min_length=1)]
    parameters: dict[str, Any] = Field(default_factory=dict)


class Prediction(Answer):
    """`output` has the shape of the task's answer."""

    task: Task
    output: Any


class BatchResult(Answer):
    """Either `output` or `error` is there."""

    index: int
    output: Any = None
    error: ErrorDetail | None = None


class BatchPrediction(Answer):
    task: Task
    results: list[BatchResult]
