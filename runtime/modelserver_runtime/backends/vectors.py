"""Tasks on an encoder's vectors: those of all tokens, and how alike sentences are."""

from collections.abc import Sequence
from typing import Any

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.embedder import Embedder
from modelserver_runtime.errors import ContextLengthExceeded, InvalidRequest


class FeatureExtractor:
    """See `backends.base.BatchBackend`; an answer is one vector per token."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.computation = embedder.computation

    def warm_up(self) -> None:
        self._embedder.warm_up()

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        texts = [encode(self._embedder, item.inputs, "inputs") for item in items]
        return [rows.float().tolist() for rows in self._embedder.token_vectors(texts)]


class SentenceSimilarity:
    """See `backends.base.BatchBackend`; an answer is the cosine of each sentence and the source."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.computation = embedder.computation

    def warm_up(self) -> None:
        self._embedder.warm_up()

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._scores(item.inputs) for item in items]

    def _scores(self, inputs: dict[str, Any]) -> list[float]:
        sentences = [
            encode(self._embedder, sentence, f"inputs.sentences.{index}")
            for index, sentence in enumerate(inputs["sentences"])
        ]
        source = encode(self._embedder, inputs["source_sentence"], "inputs.source_sentence")
        vectors = self._embedder.vectors([source, *sentences])
        scores: list[float] = (vectors[1:] @ vectors[0]).tolist()
        return scores


def encode(embedder: Embedder, text: str, param: str) -> tuple[int, ...]:
    token_ids = embedder.tokenizer.encode(text)
    if not token_ids:
        raise InvalidRequest("The text has no tokens; send one with words", param=param)
    longest = embedder.limits.max_model_length
    if len(token_ids) > longest:
        raise ContextLengthExceeded(
            f"The text has {len(token_ids)} tokens, and the model takes at most {longest}; "
            "shorten it",
            param=param,
        )
    return token_ids
