"""Text from text, by a model with an encoder and a decoder."""

from modelserver_runtime.tasks.common import GeneratedText, Text, TextToTextParameters
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

TASK = TaskDefinition(
    name="TextToTextGeneration",
    pipeline="",
    summary="text from text, as the model was trained",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_text_to_text",
    schema=TaskSchema(inputs=Text, parameters=TextToTextParameters, answer=GeneratedText),
)
