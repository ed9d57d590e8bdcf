"""Labels of the caller's own for an image."""

from modelserver_runtime.tasks.common import Label, Labels, Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class ImageLabelsParameters(RequestBody):
    candidate_labels: Labels


TASK = TaskDefinition(
    name="ZeroShotImageClassification",
    pipeline="zero-shot-image-classification",
    summary="labels of your own for an image",
    accepts=frozenset({Medium.IMAGE, Medium.TEXT}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Media, parameters=ImageLabelsParameters, answer=list[Label]),
)
