"""Prompts of requests that come again: their templates are rendered and their tokens made once."""

from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

# A prompt of this size is made of tokens in less time than its key takes.
_LONGEST_KEY_BYTES = 32 << 10
_MOST_PROMPTS = 500


class PromptMemory:
    """By engine, since a model that is loaded again may have another template.

    Used on the event loop only.
    """

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[object, OrderedDict[bytes, Any]] = WeakKeyDictionary()

    def get(self, engine: object, key: bytes) -> Any | None:
        known = self._of.get(engine)
        if known is None or key not in known:
            return None
        known.move_to_end(key)
        return known[key]

    def put(self, engine: object, key: bytes, prompt: Any) -> None:
        if len(key) > _LONGEST_KEY_BYTES:
            return
        known = self._of.setdefault(engine, OrderedDict())
        known[key] = prompt
        if len(known) > _MOST_PROMPTS:
            known.popitem(last=False)
