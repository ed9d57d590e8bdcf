"""The cache in front of a model, whichever kind of engine it has."""

from collections.abc import Callable
from dataclasses import dataclass

from modelserver_runtime.backends.base import EmbeddingItem, TaskItem
from modelserver_runtime.cache.calls import CachedCalls, CallRules, Engine, ModelKey
from modelserver_runtime.cache.generation import GENERATION_RULES, CachedGeneration
from modelserver_runtime.cache.items import (
    BytesForm,
    CachedItems,
    Form,
    JsonForm,
    item_engine,
    item_rules,
)
from modelserver_runtime.cache.shelf import Shelf
from modelserver_runtime.engine.answering import Answerer, Generator
from modelserver_runtime.engine.worker import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayer:
    """See `engine.service.Layer`; for one model that has been loaded."""

    shelf: Shelf
    model_key: ModelKey
    clock: Clock

    def generator(self, engine: Generator) -> Generator:
        return CachedGeneration(engine, self._calls(engine.open, GENERATION_RULES))

    def embeddings(self, engine: Answerer[EmbeddingItem]) -> Answerer[EmbeddingItem]:
        return self._items(engine, BytesForm(), lambda item: len(item.token_ids))

    def tasks(self, engine: Answerer[TaskItem]) -> Answerer[TaskItem]:
        # Tasks make their tokens inside the model, where nobody counts them.
        return self._items(engine, JsonForm(), lambda _: 0)

    def _items[Item](
        self, engine: Answerer[Item], form: Form, tokens_of: Callable[[Item], int]
    ) -> CachedItems[Item]:
        calls = self._calls(item_engine(engine, form), item_rules(tokens_of))
        return CachedItems(engine, calls, form)

    def _calls[Request, Chunk](
        self, engine: Engine[Request, Chunk], rules: CallRules[Request, Chunk]
    ) -> CachedCalls[Request, Chunk]:
        return CachedCalls(engine, rules, self.shelf, model_key=self.model_key, clock=self.clock)
