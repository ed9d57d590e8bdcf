"""Labels for an image."""

from modelserver_runtime.tasks.common import ClassificationParameters, Label, Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

TASK = TaskDefinition(
    name="ImageClassification",
    pipeline="image-classification",
    summary="labels for an image",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Media, parameters=ClassificationParameters, answer=list[Label]),
)
