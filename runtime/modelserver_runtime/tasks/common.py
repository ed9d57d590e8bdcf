"""Types that several tasks share: what they take, how they are asked, what they answer."""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from modelserver_runtime.tasks.fields import Answer, RequestBody

MOST_LABELS = 100
# A frame of a video and an image of a question are each decoded in full.
MOST_IMAGES = 64

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
type Labels = Annotated[list[Text], Field(min_length=1, max_length=MOST_LABELS)]
type Share = Annotated[float, Field(ge=0, le=1)]
# An image as base64 of a PNG file.
type Png = str


class Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParameters(RequestBody):
    pass


class ClassificationParameters(RequestBody):
    """`top_k` is how many labels are wanted: without it, all."""

    top_k: Annotated[int | None, Field(ge=1)] = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class TextToTextParameters(RequestBody):
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    min_new_tokens: Annotated[int | None, Field(ge=0)] = None
    num_beams: Annotated[int | None, Field(ge=1, le=16)] = None
    length_penalty: float | None = None
    no_repeat_ngram_size: Annotated[int | None, Field(ge=0)] = None


class SamplingParameters(RequestBody):
    """Greedy unless `do_sample` is true."""

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 128
    do_sample: bool = False
    temperature: Annotated[float | None, Field(gt=0, le=2)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1)] = None
    top_k: Annotated[int | None, Field(ge=1)] = None
    num_beams: Annotated[int | None, Field(ge=1, le=16)] = None


class Label(Answer):
    label: str
    score: float


class GeneratedText(Answer):
    generated_text: str


class Box(Answer):
    """Pixels from the upper left corner."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class DetectedObject(Answer):
    label: str
    score: float
    box: Box


class Span(Answer):
    """Words of a text, and where they begin and end in it."""

    answer: str
    score: float
    start: int
    end: int
