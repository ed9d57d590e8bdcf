"""How far away each pixel of an image is."""

from modelserver_runtime.tasks.common import Media, NoParameters, Png
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer


class Depth(Answer):
    """`depth` is an image: black is the least value, white the greatest that was found."""

    depth: Png
    least: float
    greatest: float


TASK = TaskDefinition(
    name="DepthEstimation",
    pipeline="depth-estimation",
    summary="how far away each pixel of an image is",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Media, parameters=NoParameters, answer=Depth),
)
