"""Vectors for an image: of its parts, or of the whole."""

from typing import Any

from modelserver_runtime.tasks.common import Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class ImageFeatureParameters(RequestBody):
    """With `pool`, one vector for the whole image."""

    pool: bool = False


TASK = TaskDefinition(
    name="ImageFeatureExtraction",
    pipeline="image-feature-extraction",
    summary="vectors for an image: of its parts, or of the whole",
    accepts=frozenset({Medium.IMAGE}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(inputs=Media, parameters=ImageFeatureParameters, answer=list[Any]),
)
