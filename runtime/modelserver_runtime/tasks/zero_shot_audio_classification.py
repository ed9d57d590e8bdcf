"""Labels of the caller's own for a sound."""

from modelserver_runtime.tasks.common import Label, Labels, Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class SoundLabelsParameters(RequestBody):
    candidate_labels: Labels
    hypothesis_template: str = "This is a sound of {}."


TASK = TaskDefinition(
    name="ZeroShotAudioClassification",
    pipeline="zero-shot-audio-classification",
    summary="labels of your own for a sound",
    accepts=frozenset({Medium.AUDIO, Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Media, parameters=SoundLabelsParameters, answer=list[Label]),
)
