"""The words that a gap in a text may stand for."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import MOST_LABELS, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class FillMaskParameters(RequestBody):
    top_k: Annotated[int | None, Field(ge=1, le=1000)] = None
    targets: Annotated[list[Text] | None, Field(min_length=1, max_length=MOST_LABELS)] = None


class Filled(Answer):
    sequence: str
    score: float
    token: int
    token_str: str


TASK = TaskDefinition(
    name="FillMask",
    pipeline="fill-mask",
    summary="the words that a gap in a text may stand for",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(
        inputs=Text, parameters=FillMaskParameters, answer=list[Filled] | list[list[Filled]]
    ),
)
