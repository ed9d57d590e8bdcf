"""The same points in two images."""

from modelserver_runtime.tasks.common import Input, Media, Share
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class ImagePair(Input):
    first: Media
    second: Media


class MatchingParameters(RequestBody):
    threshold: Share = 0.0


class Point(Answer):
    """Pixels from the upper left corner."""

    x: float
    y: float


class Match(Answer):
    first: Point
    second: Point
    score: float


TASK = TaskDefinition(
    name="KeypointMatching",
    pipeline="keypoint-matching",
    summary="the same points in two images",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=ImagePair, parameters=MatchingParameters, answer=list[Match]),
)
