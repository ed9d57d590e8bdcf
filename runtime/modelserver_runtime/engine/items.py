"""How long the inputs of each kind of model are, and which of them are equal."""

from collections.abc import Hashable, Mapping
from typing import Any

from modelserver_runtime.backends.base import EmbeddingItem, TaskItem
from modelserver_runtime.engine.batching import ItemKind

# Tokens are counted where texts are computed, in the model's thread. Before, English text has
# about four characters in each; only the proportion between inputs matters for a batch.
_CHARACTERS_PER_TOKEN = 4


def _task_cost(item: TaskItem) -> int:
    return 1 + _characters(item.inputs) // _CHARACTERS_PER_TOKEN


def _characters(inputs: Any) -> int:
    """Of all texts in it; images and sound are made equally long by what reads them."""
    match inputs:
        case str():
            return len(inputs)
        case Mapping():
            return sum(_characters(value) for value in inputs.values())
        case list() | tuple():
            return sum(_characters(value) for value in inputs)
        case _:
            return 0


def _task_key(item: TaskItem) -> Hashable:
    inputs = item.inputs if isinstance(item.inputs, str | bytes) else repr(item.inputs)
    return type(item.inputs).__name__, inputs, repr(sorted(item.parameters.items()))


EMBEDDINGS: ItemKind[EmbeddingItem] = ItemKind(
    cost=lambda item: len(item.token_ids), key=lambda item: item.token_ids
)
TASKS: ItemKind[TaskItem] = ItemKind(cost=_task_cost, key=_task_key)
