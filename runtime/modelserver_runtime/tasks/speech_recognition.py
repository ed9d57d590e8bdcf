"""What is said in a sound."""

from typing import Literal

from modelserver_runtime.tasks.common import Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class SpeechParameters(RequestBody):
    return_timestamps: bool | Literal["word", "char"] | None = None


class SpokenChunk(Answer):
    """`timestamp` is when it begins and ends, in seconds."""

    text: str
    timestamp: tuple[float | None, float | None]


class Transcript(Answer):
    text: str
    chunks: list[SpokenChunk] | None = None


TASK = TaskDefinition(
    name="SpeechRecognition",
    pipeline="automatic-speech-recognition",
    summary="what is said in a sound",
    accepts=frozenset({Medium.AUDIO}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Media, parameters=SpeechParameters, answer=Transcript),
)
