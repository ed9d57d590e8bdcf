"""The same in another language."""

from modelserver_runtime.tasks.common import Text, TextToTextParameters
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer


class TranslationParameters(TextToTextParameters):
    source_language: str | None = None
    target_language: str | None = None


class Translation(Answer):
    translation_text: str


TASK = TaskDefinition(
    name="Translation",
    pipeline="",
    summary="the same text in another language",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_text_to_text",
    schema=TaskSchema(inputs=Text, parameters=TranslationParameters, answer=Translation),
)
