"""What clients do: the usual, the impatient, the slow and the wrong."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from bench.fronting.folders import MINILM, Ability, Kind
from bench.soaking.asking import UNCACHED, Asker, Manner
from bench.soaking.marks import Known, Pool, scores
from bench.soaking.server import POISON
from bench.soaking.tally import Fault

CLASSIFIER = Kind(ability=Ability.CLASSIFICATION, size=MINILM).name
EMBEDDER = Kind(ability=Ability.EMBEDDINGS, size=MINILM).name
GENERATOR = Kind(ability=Ability.GENERATION, size=MINILM).name

CHAT = "/v1/chat/completions"
_SLOW_BYTES = 512
_SLOW_SECONDS = 0.01
_GONE_SECONDS = 0.05
# Enough that a batch is likely, and that the model is never thought to be broken as a whole.
_BESIDE_POISON = 2

type Script = Callable[[Asker], Awaitable[None]]


async def _chat(asker: Asker) -> None:
    mine = asker.some(asker.pools.chats)
    await asker.whole("chat", asker.pools.chats, mine, asker.either())


async def _repeated_chat(asker: Asker) -> None:
    """Of few questions, so that most are in the cache or on their way."""
    mine = asker.chance.choice(asker.pools.chats.known[:4])
    await asker.whole("repeated chat", asker.pools.chats, mine)


async def _streamed_chat(asker: Asker) -> None:
    pool = asker.pools.chats
    await _streamed(asker, "streamed chat", pool, asker.some(pool))


async def _slow_reader(asker: Asker) -> None:
    pool = asker.pools.long_chats
    await _streamed(asker, "slow reader", pool, asker.some(pool), is_slow=True)


async def _completion(asker: Asker) -> None:
    pool = asker.pools.completions
    await asker.whole("completion", pool, asker.some(pool), asker.either())


async def _streamed_completion(asker: Asker) -> None:
    pool = asker.pools.completions
    await _streamed(asker, "streamed completion", pool, asker.some(pool))


async def _embedding(asker: Asker) -> None:
    pool = asker.pools.embeddings
    await asker.whole("embedding", pool, asker.some(pool), asker.either())


async def _prediction(asker: Asker) -> None:
    pool = asker.pools.predictions
    await asker.whole("prediction", pool, asker.some(pool), asker.either())


async def _batch_prediction(asker: Asker) -> None:
    """Several at once, whose answers come in their order."""
    pool = asker.pools.predictions
    asked = asker.chance.sample(pool.known, 4)
    body = {**asked[0].question.body, "inputs": [one.question.body["inputs"] for one in asked]}
    async with asker.request("batch prediction", "/batch-predict", body, asker.either()) as it:
        if not it.ok:
            return
        results = orjson.loads(await it.read())["results"]
    if len(results) != len(asked):
        asker.tally.fault(Fault.LOST, f"batch prediction: {len(results)} results")
    for mine, result in zip(asked, results, strict=False):
        if result.get("error"):
            asker.tally.fault(Fault.UNEXPECTED_STATUS, f"batch prediction: {result}")
            continue
        mark = scores(result["output"])
        asker.tally.note_verdict("batch prediction", pool.judge(mine, mark), result)


async def _cancelled_stream(asker: Asker) -> None:
    """Goes after the first events."""
    mine = asker.some(asker.pools.long_chats)
    body = {**mine.question.body, "stream": True}
    async with asker.request("cancelled stream", CHAT, body, UNCACHED) as response:
        await response.content.readany()
        response.close()


async def _disconnected(asker: Asker) -> None:
    """Goes before the answer: there is none to look at."""
    mine = asker.some(asker.pools.long_chats)
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(_GONE_SECONDS),
            asker.request("disconnected", CHAT, mine.question.body, UNCACHED),
        ):
            pass


async def _without_key(asker: Asker) -> None:
    body = asker.some(asker.pools.chats).question.body
    key = asker.chance.choice(["", asker.keys.revoked])
    async with asker.request("without a key", CHAT, body, Manner(key=key, expected=(401,))):
        pass


async def _limited_key(asker: Asker) -> None:
    pool = asker.pools.chats
    await asker.limited("limited key", pool, asker.some(pool))


_MESSAGES = [{"role": "user", "content": "badada"}]
_GOOD_CHAT = {"model": GENERATOR, "messages": _MESSAGES, "max_tokens": 4}
_JSON = "application/json"
# Status, route, body, method and kind of content.
_BAD: tuple[tuple[int, str, Any, str, str], ...] = (
    (400, CHAT, b'{"model": ', "POST", _JSON),
    (400, CHAT, b"", "POST", _JSON),
    (400, CHAT, b"\xff\xfe\x00", "POST", _JSON),
    (400, CHAT, {**_GOOD_CHAT, "temperature": 5}, "POST", _JSON),
    (400, CHAT, {**_GOOD_CHAT, "max_tokens": 100_000}, "POST", _JSON),
    (400, CHAT, {**_GOOD_CHAT, "messages": []}, "POST", _JSON),
    (400, CHAT, {**_GOOD_CHAT, "no_such_field": 1}, "POST", _JSON),
    (400, CHAT, {**_GOOD_CHAT, "model": EMBEDDER}, "POST", _JSON),
    (400, "/predict", {"model": CLASSIFIER}, "POST", _JSON),
    (400, "/v1/embeddings", {"model": EMBEDDER, "input": ""}, "POST", _JSON),
    (404, CHAT, {**_GOOD_CHAT, "model": "no-such-model"}, "POST", _JSON),
    (404, "/v1/no/such/route", {}, "POST", _JSON),
    (405, CHAT, b"", "DELETE", _JSON),
    (415, CHAT, b"hello", "POST", "text/plain"),
)


async def _bad_request(asker: Asker) -> None:
    status, route, body, method, content_type = asker.chance.choice(_BAD)
    kind = f"bad request ({status})"
    headers = {"content-type": content_type}
    manner = Manner(expected=(status,), method=method, headers=headers)
    async with asker.request(kind, route, body, manner) as response:
        answer = orjson.loads(await response.read())
    if not answer.get("error", {}).get("message"):
        asker.tally.fault(Fault.WRONG, f"{kind}: no message in {answer}")


async def poison(asker: Asker) -> None:
    """Fails alone, whatever it is computed with: others come at the same moment."""
    pool = asker.pools.predictions
    good = (
        asker.whole("prediction beside poison", pool, asker.some(pool), UNCACHED)
        for _ in range(_BESIDE_POISON)
    )
    await asyncio.gather(_poisoned(asker, asker.some(pool)), *good)


async def _poisoned(asker: Asker, mine: Known) -> None:
    text = f"{mine.question.body['inputs']} {POISON}"
    body = {**mine.question.body, "inputs": text}
    async with asker.request("poison", "/predict", body, Manner(expected=(500,))) as response:
        await response.read()


# How often each comes, of all.
SCRIPTS: Mapping[Script, int] = {
    _chat: 4,
    _repeated_chat: 4,
    _streamed_chat: 4,
    _completion: 3,
    _streamed_completion: 2,
    _embedding: 4,
    _prediction: 4,
    _batch_prediction: 2,
    _bad_request: 2,
    _cancelled_stream: 1,
    _disconnected: 1,
    _slow_reader: 1,
    _without_key: 1,
    _limited_key: 1,
}


async def ask_until(asker: Asker, stopped: asyncio.Event) -> None:
    """One client after another; what gets no answer is lost."""
    scripts, weights = list(SCRIPTS), list(SCRIPTS.values())
    while not stopped.is_set():
        [script] = asker.chance.choices(scripts, weights)
        await run(asker, script)


async def run(asker: Asker, script: Script) -> None:
    try:
        await script(asker)
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        asker.tally.fault(Fault.LOST, f"{script.__name__.strip('_')}: {error!r}")


async def _streamed(
    asker: Asker, kind: str, pool: Pool, mine: Known, *, is_slow: bool = False
) -> None:
    """The pieces, put together, are the answer; there is one end."""
    question = mine.question
    body = {**question.body, "stream": True}
    manner = replace(asker.either(), is_slow=is_slow)
    async with asker.request(kind, question.route, body, manner) as response:
        if not response.ok:
            return
        events = [event async for event in _events(response, is_slow=is_slow)]
    _judge_stream(asker, kind, pool, mine, events)


def _judge_stream(asker: Asker, kind: str, pool: Pool, mine: Known, events: list[Any]) -> None:
    tally = asker.tally
    if not events or events[-1] is not None:
        tally.fault(Fault.LOST, f"{kind}: the stream has no end: {str(events[-1:])[:200]}")
        return
    chunks = [event for event in events if event is not None]
    if failed := [chunk for chunk in chunks if "error" in chunk]:
        tally.fault(Fault.LOST, f"{kind}: {failed[0]}")
        return
    ids = {chunk["id"] for chunk in chunks}
    ends = [chunk for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    if len(ids) != 1 or len(ends) != 1 or len(events) != len(chunks) + 1:
        tally.fault(Fault.DUPLICATED, f"{kind}: {len(ids)} ids, {len(ends)} ends")
    tally.note_id(kind, chunks[0]["id"])
    text = "".join(_text(chunk["choices"][0]) for chunk in chunks)
    tally.note_verdict(kind, pool.judge(mine, text), text)


def _text(choice: Mapping[str, Any]) -> str:
    return choice.get("text") or choice.get("delta", {}).get("content") or ""


async def _events(response: aiohttp.ClientResponse, *, is_slow: bool) -> AsyncIterator[Any]:
    """Each event; None for the last one."""
    rest = b""
    async for piece in _pieces(response, is_slow=is_slow):
        *complete, rest = (rest + piece).split(b"\n\n")
        for event in complete:
            data = event.removeprefix(b"data: ")
            yield None if data == b"[DONE]" else orjson.loads(data)


async def _pieces(response: aiohttp.ClientResponse, *, is_slow: bool) -> AsyncIterator[bytes]:
    if not is_slow:
        async for piece in response.content.iter_any():
            yield piece
        return
    while piece := await response.content.read(_SLOW_BYTES):
        yield piece
        await asyncio.sleep(_SLOW_SECONDS)
