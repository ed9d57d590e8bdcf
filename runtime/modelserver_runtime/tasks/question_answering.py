"""Words of a text that answer a question."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import Input, Span, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import RequestBody


class QuestionInput(Input):
    question: Text
    context: Text


class QuestionParameters(RequestBody):
    top_k: Annotated[int, Field(ge=1, le=20)] = 1
    max_answer_length: Annotated[int, Field(ge=1, le=512)] = 30


TASK = TaskDefinition(
    name="QuestionAnswering",
    pipeline="",
    summary="words of a text that answer a question",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_question_answerer",
    schema=TaskSchema(
        inputs=QuestionInput, parameters=QuestionParameters, answer=Span | list[Span]
    ),
)
