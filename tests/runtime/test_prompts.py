"""Prompts that come again are remembered for as long as their model, and not too many of them."""

import gc
import weakref

from modelserver_runtime.rest import prompts
from modelserver_runtime.rest.prompts import PromptMemory
from support.runtime_server import RunningServer


class Engine:
    """Stands for an engine; only who it is matters."""


def test_a_prompt_is_remembered_for_its_engine_only():
    memory, one, other = PromptMemory(), Engine(), Engine()
    memory.put(one, b"body", (1, 2))
    assert memory.get(one, b"body") == (1, 2)
    assert memory.get(one, b"other") is None
    assert memory.get(other, b"body") is None


def test_the_prompts_unused_longest_give_way(monkeypatch):
    monkeypatch.setattr(prompts, "_MOST_PROMPTS", 2)
    memory, engine = PromptMemory(), Engine()
    for key in (b"a", b"b"):
        memory.put(engine, key, key)
    memory.get(engine, b"a")
    memory.put(engine, b"c", b"c")
    assert [memory.get(engine, key) for key in (b"a", b"b", b"c")] == [b"a", None, b"c"]


def test_very_long_requests_are_not_remembered():
    memory, engine = PromptMemory(), Engine()
    memory.put(engine, bytes(40_000), (1,))
    assert memory.get(engine, bytes(40_000)) is None


def test_a_model_that_is_unloaded_takes_its_prompts_with_it():
    memory, engine = PromptMemory(), Engine()
    prompt = Engine()
    memory.put(engine, b"body", prompt)
    left = weakref.ref(prompt)
    del prompt, engine
    gc.collect()
    assert left() is None


def test_requests_that_differ_in_a_word_are_told_apart(chat_server: RunningServer):
    def tokens(text: str) -> int:
        body = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        return chat_server.post("/v1/chat/completions", **body).json()["usage"]["prompt_tokens"]

    first = [tokens("the fox"), tokens("the quick brown fox jumps")]
    assert first == [tokens("the fox"), tokens("the quick brown fox jumps")]
    assert first[0] < first[1]
