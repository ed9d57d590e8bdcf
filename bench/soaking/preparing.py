"""Before the load: keys, and questions whose answers the idle server has said one by one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from bench.serving import words
from bench.soaking.asking import UNCACHED, Asker, Keys
from bench.soaking.marks import (
    Pool,
    Question,
    scores_of_prediction,
    text_of_chat,
    text_of_completion,
    vector_of_embedding,
)
from bench.soaking.scripts import CHAT, CLASSIFIER, EMBEDDER, GENERATOR
from modelserver_runtime.access.secret import new_secret

_QUESTIONS = 32
_LONG_QUESTIONS = 4
_LONG_ANSWER_TOKENS = 160
_LIMIT_PER_MINUTE = 30
_TEXT_TOKENS = 16
_SEED = 5000
# Questions whose answers are too much alike are left out; more would mean a broken model.
_MOST_TRIES = 4

type MakeQuestion = Callable[[int, str], Question]


def write_keys(folder: Path) -> Keys:
    """Each file holds one key, as a mounted Secret has it."""
    keys = Keys(
        worker=new_secret(), limited=new_secret(), revoked=new_secret(), limit=_LIMIT_PER_MINUTE
    )
    limited = {"key": keys.limited, "limits": {"requests_per_minute": keys.limit}}
    (folder / "worker").write_text(keys.worker)
    (folder / "limited").write_text(json.dumps(limited))
    return keys


async def prepare(asker: Asker) -> None:
    pools = asker.pools
    await _fill(asker, pools.chats, _QUESTIONS, _chat)
    await _fill(asker, pools.long_chats, _LONG_QUESTIONS, _long_chat)
    await _fill(asker, pools.completions, _QUESTIONS, _completion)
    await _fill(asker, pools.embeddings, _QUESTIONS, _embedding)
    await _fill(asker, pools.predictions, _QUESTIONS, _prediction)


async def _fill(asker: Asker, pool: Pool, count: int, make: MakeQuestion) -> None:
    for number, text in enumerate(_texts(count * _MOST_TRIES)):
        if len(pool.known) == count:
            return
        question = make(number, text)
        async with asker.request(
            "preparation", question.route, question.body, UNCACHED
        ) as response:
            response.raise_for_status()
            pool.add(question, question.read(orjson.loads(await response.read())))
    if len(pool.known) < count:
        raise RuntimeError(f"Of {count * _MOST_TRIES} answers only {len(pool.known)} differ enough")


def _texts(count: int) -> Iterator[str]:
    prompt_tokens = _TEXT_TOKENS + words.CHAT_TOKENS
    yield from words.messages(count, prompt_tokens=prompt_tokens, seed=_SEED)


def _length(number: int) -> int:
    """From 8 to 23 tokens, so that answers end at different times."""
    return 8 + number % 16


def _chat(number: int, text: str) -> Question:
    return _chat_of(text, _length(number))


def _long_chat(_: int, text: str) -> Question:
    return _chat_of(text, _LONG_ANSWER_TOKENS)


def _chat_of(text: str, tokens: int) -> Question:
    messages = [{"role": "user", "content": text}]
    body = {"model": GENERATOR, "messages": messages, "max_tokens": tokens, "temperature": 0}
    return Question(route=CHAT, body=body, read=text_of_chat)


def _completion(number: int, text: str) -> Question:
    tokens = _length(number)
    body = {"model": GENERATOR, "prompt": text, "max_tokens": tokens, "temperature": 0}
    return Question(route="/v1/completions", body=body, read=text_of_completion)


def _embedding(_: int, text: str) -> Question:
    body = {"model": EMBEDDER, "input": text}
    return Question(route="/v1/embeddings", body=body, read=vector_of_embedding)


def _prediction(_: int, text: str) -> Question:
    body = {"model": CLASSIFIER, "inputs": text, "parameters": {"top_k": None}}
    return Question(route="/predict", body=body, read=scores_of_prediction)
