"""Text about images."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import (
    MOST_IMAGES,
    GeneratedText,
    Input,
    Media,
    SamplingParameters,
    Text,
)
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema


class ImagesAndText(Input):
    images: Annotated[list[Media], Field(min_length=1, max_length=MOST_IMAGES)]
    text: Text


TASK = TaskDefinition(
    name="ImageTextToText",
    pipeline="image-text-to-text",
    summary="text about images",
    accepts=frozenset({Medium.IMAGE, Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(
        inputs=ImagesAndText,
        parameters=SamplingParameters,
        answer=GeneratedText,
        file_field="images",
    ),
)
