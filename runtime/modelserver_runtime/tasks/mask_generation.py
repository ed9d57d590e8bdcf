"""The shapes that an image is made of."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import Box, Media, Png, Share
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class MaskParameters(RequestBody):
    """`points_per_side` of a grid are asked for the shape that they lie on."""

    points_per_side: Annotated[int, Field(ge=1, le=64)] = 32
    points_per_batch: Annotated[int, Field(ge=1, le=1024)] = 64
    pred_iou_thresh: Share = 0.88
    stability_score_thresh: Share = 0.95
    mask_threshold: float = 0.0
    crops_nms_thresh: Share = 0.7


class Mask(Answer):
    mask: Png
    score: float
    box: Box


TASK = TaskDefinition(
    name="MaskGeneration",
    pipeline="mask-generation",
    summary="the shapes that an image is made of",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.masks:load",
    schema=TaskSchema(inputs=Media, parameters=MaskParameters, answer=list[Mask]),
)
