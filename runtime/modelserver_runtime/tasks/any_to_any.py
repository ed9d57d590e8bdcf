"""Text, an image or a sound, from texts, images and sounds."""

from typing import Annotated, Literal

from pydantic import Field

from modelserver_runtime.tasks.common import (
    MOST_IMAGES,
    Input,
    Media,
    Png,
    SamplingParameters,
    Text,
)
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer


class AnyInput(Input):
    text: Text
    images: Annotated[tuple[Media, ...], Field(max_length=MOST_IMAGES)] = ()
    audio: Annotated[tuple[Media, ...], Field(max_length=MOST_IMAGES)] = ()


class AnyParameters(SamplingParameters):
    """`generation_mode` is what is wanted; few models make more than text."""

    generation_mode: Literal["text", "image", "audio"] = "text"


class AnyAnswer(Answer):
    """One of them: `image` is base64 of a PNG file, `audio` of a WAV file."""

    generated_text: str | None = None
    image: Png | None = None
    audio: str | None = None


TASK = TaskDefinition(
    name="AnyToAny",
    pipeline="any-to-any",
    summary="text, an image or a sound, from texts, images and sounds",
    accepts=frozenset({Medium.AUDIO, Medium.IMAGE, Medium.TEXT}),
    loader="modelserver_runtime.backends.any_to_any:load",
    schema=TaskSchema(
        inputs=AnyInput, parameters=AnyParameters, answer=AnyAnswer, file_field="images"
    ),
)
