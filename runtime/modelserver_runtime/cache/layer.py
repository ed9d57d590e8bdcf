"""The cache in front of a model, whichever kind of engine it has."""

from dataclasses import dataclass

from modelserver_runtime.backends.base import EmbeddingItem, TaskItem
from modelserver_runtime.cache.calls import CachedCalls, CallRules, Engine, ModelKey
from modelserver_runtime.cache.generation import GENERATION_RULES, CachedGeneration
from modelserver_runtime.cache.items import (
    BytesForm,
    CachedItems,
    Form,
    ItemAnswer,
    JsonForm,
    item_engine,
    item_rules,
)
from modelserver_runtime.cache.shelf import Shelf
from modelserver_runtime.engine.answering import Answerer, Generator
from modelserver_runtime.engine.worker import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayer:
    """See `engine.service.Layer`; for one model that has been loaded.

    `samples`: it draws random numbers unless a request says otherwise.
    """

    shelf: Shelf
    model_key: ModelKey
    clock: Clock
    samples: bool = False

    def generator(self, engine: Generator) -> Generator:
        return CachedGeneration(engine, self._calls(engine.open, GENERATION_RULES))

    def embeddings(self, engine: Answerer[EmbeddingItem]) -> Answerer[EmbeddingItem]:
        rules: CallRules[EmbeddingItem, ItemAnswer] = item_rules(
            tokens_of=lambda item: len(item.token_ids), repeats=lambda _: True
        )
        return self._items(engine, BytesForm(), rules)

    def tasks(self, engine: Answerer[TaskItem]) -> Answerer[TaskItem]:
        # Tasks make their tokens inside the model, where nobody counts them.
        rules = item_rules(tokens_of=lambda _: 0, repeats=self._repeats)
        return self._items(engine, JsonForm(), rules)

    def _repeats(self, item: TaskItem) -> bool:
        return not item.parameters.get("do_sample", self.samples)

    def _items[Item](
        self, engine: Answerer[Item], form: Form, rules: CallRules[Item, ItemAnswer]
    ) -> CachedItems[Item]:
        return CachedItems(engine, self._calls(item_engine(engine, form), rules), form)

    def _calls[Request, Chunk](
        self, engine: Engine[Request, Chunk], rules: CallRules[Request, Chunk]
    ) -> CachedCalls[Request, Chunk]:
        return CachedCalls(engine, rules, self.shelf, model_key=self.model_key, clock=self.clock)
