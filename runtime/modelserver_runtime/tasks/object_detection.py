"""What is where in an image."""

from modelserver_runtime.tasks.common import DetectedObject, Media, Share
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class DetectionParameters(RequestBody):
    threshold: Share = 0.5


TASK = TaskDefinition(
    name="ObjectDetection",
    pipeline="object-detection",
    summary="what is where in an image",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Media, parameters=DetectionParameters, answer=list[DetectedObject]),
)
