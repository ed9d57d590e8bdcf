"""Where in an image the caller's own things are."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import DetectedObject, Labels, Media, Share
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class ObjectLabelsParameters(RequestBody):
    candidate_labels: Labels
    threshold: Share = 0.1
    top_k: Annotated[int | None, Field(ge=1)] = None


TASK = TaskDefinition(
    name="ZeroShotObjectDetection",
    pipeline="zero-shot-object-detection",
    summary="where in an image things of your own are",
    accepts=frozenset({Medium.IMAGE, Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Media, parameters=ObjectLabelsParameters, answer=list[DetectedObject]),
)
