"""What a page says about a question."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import Input, Media, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema
from modelserver_runtime.tasks.fields import Answer, RequestBody


class DocumentInput(Input):
    """`word_boxes` are the words of the page with left, upper, right and lower edge, 0 to 1000.

    Models that read words and places need them: this server recognises no characters.
    """

    image: Media
    question: Text
    word_boxes: list[tuple[str, tuple[int, int, int, int]]] | None = None


class DocumentParameters(RequestBody):
    top_k: Annotated[int, Field(ge=1, le=20)] = 1
    max_answer_len: Annotated[int, Field(ge=1, le=512)] = 15
    handle_impossible_answer: bool = False


class DocumentAnswer(Answer):
    """`start` and `end` count words; models that only write say neither these nor a score."""

    answer: str
    score: float | None = None
    start: int | None = None
    end: int | None = None


TASK = TaskDefinition(
    name="DocumentQuestionAnswering",
    pipeline="document-question-answering",
    summary="what a page says about a question",
    accepts=frozenset({Medium.IMAGE, Medium.TEXT}),
    loader="modelserver_runtime.backends.media_tasks:load",
    schema=TaskSchema(
        inputs=DocumentInput,
        parameters=DocumentParameters,
        answer=list[DocumentAnswer],
        file_field="image",
    ),
)
