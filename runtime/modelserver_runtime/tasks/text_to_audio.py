"""Speech or music from a text."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class TextToAudioParameters(RequestBody):
    """`max_new_tokens` and sampling are for models that generate; others take neither."""

    max_new_tokens: Annotated[int | None, Field(ge=1, le=4096)] = None
    do_sample: bool | None = None
    temperature: Annotated[float | None, Field(gt=0, le=2)] = None


class Sound(Answer):
    """`audio` is base64 of a WAV file with one channel per row of what the model made."""

    audio: str
    sampling_rate: int
    seconds: float


TASK = TaskDefinition(
    name="TextToAudio",
    pipeline="text-to-audio",
    summary="speech or music from a text",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Text, parameters=TextToAudioParameters, answer=Sound),
    is_random=True,
)
