"""A short text that says what a long one does."""

from modelserver_runtime.tasks.common import Text, TextToTextParameters
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer


class Summary(Answer):
    summary_text: str


TASK = TaskDefinition(
    name="Summarization",
    pipeline="",
    summary="a short text that says what a long one does",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_text_to_text",
    schema=TaskSchema(inputs=Text, parameters=TextToTextParameters, answer=Summary),
)
