"""Labels for a text, or for a text with a second one."""

from modelserver_runtime.tasks.common import ClassificationParameters, Input, Label, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema


class TextPair(Input):
    text: Text
    text_pair: Text


TASK = TaskDefinition(
    name="TextClassification",
    pipeline="text-classification",
    summary="labels for a text, or for a pair of texts",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.pipelines:load",
    schema=TaskSchema(
        inputs=Text | TextPair, parameters=ClassificationParameters, answer=list[Label]
    ),
)
