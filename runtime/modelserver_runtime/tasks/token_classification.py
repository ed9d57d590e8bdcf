"""Names and other entities in a text."""

from typing import Literal

from modelserver_runtime.tasks.common import Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class TokenClassificationParameters(RequestBody):
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] = "simple"
    ignore_labels: list[str] | None = None


class Entity(Answer):
    """`entity_group` with an aggregation strategy, `entity` and `index` without one."""

    entity_group: str | None = None
    entity: str | None = None
    index: int | None = None
    score: float
    word: str
    start: int | None
    end: int | None


TASK = TaskDefinition(
    name="TokenClassification",
    pipeline="token-classification",
    summary="names and other entities in a text",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(inputs=Text, parameters=TokenClassificationParameters, answer=list[Entity]),
)
