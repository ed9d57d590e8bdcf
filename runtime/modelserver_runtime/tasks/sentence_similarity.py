"""How alike sentences are."""

from typing import Annotated

from pydantic import Field

from modelserver_runtime.tasks.common import Input, NoParameters, Text
from modelserver_runtime.tasks.definition import Medium, TaskDefinition, TaskSchema

_MOST_SENTENCES = 1000


class SimilarityInput(Input):
    source_sentence: Text
    sentences: Annotated[list[Text], Field(min_length=1, max_length=_MOST_SENTENCES)]


TASK = TaskDefinition(
    name="SentenceSimilarity",
    pipeline="",
    summary="how alike a sentence and others are",
    accepts=frozenset({Medium.TEXT}),
    loader="modelserver_runtime.backends.loaders:load_similarity",
    schema=TaskSchema(inputs=SimilarityInput, parameters=NoParameters, answer=list[float]),
)
