"""Labels for a video."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import MOST_IMAGES, ClassificationParameters, Label, Media
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

type Frames = Annotated[list[Media], Field(min_length=1, max_length=MOST_IMAGES)]


class VideoParameters(ClassificationParameters):
    """`num_frames` are taken evenly from the whole video: without it, as the model was trained."""

    num_frames: Annotated[int | None, Field(ge=1, le=MOST_IMAGES)] = None


TASK = TaskDefinition(
    name="VideoClassification",
    pipeline="video-classification",
    summary="labels for a video: a file, or a list of frames",
    accepts=frozenset({Medium.VIDEO}),
    loader="modelserver_runtime.backends.video:load",
    schema=TaskSchema(inputs=Media | Frames, parameters=VideoParameters, answer=list[Label]),
)
