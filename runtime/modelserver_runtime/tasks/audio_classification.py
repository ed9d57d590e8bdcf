"""Labels for a sound."""

from modelserver_runtime.tasks.common import ClassificationParameters, Label, Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

TASK = TaskDefinition(
    name="AudioClassification",
    pipeline="audio-classification",
    summary="labels for a sound",
    accepts=frozenset({Medium.AUDIO}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Media, parameters=ClassificationParameters, answer=list[Label]),
)
