"""Which pixels of an image belong to what."""

from typing import Literal

from modelserver_runtime.tasks.common import Media, Png, Share
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class SegmentationParameters(RequestBody):
    """Without `subtask` the first that the model can."""

    subtask: Literal["panoptic", "instance", "semantic"] | None = None
    threshold: Share = 0.9
    mask_threshold: Share = 0.5
    overlap_mask_area_threshold: Share = 0.5


class Segment(Answer):
    """`mask` is white where the segment is; semantic segmentation knows no score."""

    label: str
    score: float | None
    mask: Png


TASK = TaskDefinition(
    name="ImageSegmentation",
    pipeline="image-segmentation",
    summary="which pixels of an image belong to what",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Media, parameters=SegmentationParameters, answer=list[Segment]),
)
