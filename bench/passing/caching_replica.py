"""`python -m bench.passing.caching_replica`: a stand-in for an engine that caches prompt prefixes.

A token is a word. As vLLM does it, prompts are divided into blocks, each named by itself and all
before it; the blocks of prompts and answers are kept, and those that were used longest ago go when
there are too many. What was not cached takes its time, and so does each token of the answer; how
many are computed at the same time changes neither.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import batched
from typing import Any

import orjson
import uvloop
from aiohttp import web

BLOCK_TOKENS = 16
PREFILL_SECONDS_PER_TOKEN = 0.0001
DECODE_SECONDS_PER_TOKEN = 0.001
_READY_BLOCKS = 1024


class PrefixCache:
    def __init__(self, blocks: int) -> None:
        self._most = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def cached(self, tokens: Sequence[str]) -> int:
        """How many tokens from the first one on are there."""
        count = 0
        for name in _names(tokens):
            if name not in self._blocks:
                break
            count += BLOCK_TOKENS
        return count

    def keep(self, tokens: Sequence[str]) -> None:
        # The last ones first, so that a prefix outlives what follows it.
        for name in reversed(list(_names(tokens))):
            self._blocks[name] = None
            self._blocks.move_to_end(name)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)


def _names(tokens: Sequence[str]) -> Iterable[int]:
    """Of whole blocks; each names all before it, too."""
    name = 0
    for block in batched(tokens, BLOCK_TOKENS, strict=False):
        if len(block) < BLOCK_TOKENS:
            return
        name = hash((name, block))
        yield name


class Replica:
    def __init__(self) -> None:
        self._cache = PrefixCache(_READY_BLOCKS)

    async def reset(self, request: web.Request) -> web.Response:
        self._cache = PrefixCache(int(request.query["blocks"]))
        return web.Response()

    async def chat(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        prompt = tokens_of(body["messages"])
        cached = self._cache.cached(prompt)
        # What the same prompt finds while this one is computed, it finds in an engine, too.
        self._cache.keep(prompt)
        # Unlike any other, so that no other conversation finds it.
        answer = [f"{prompt[-1]}-{number}" for number in range(body["max_tokens"])]
        missing = len(prompt) - cached
        await asyncio.sleep(
            missing * PREFILL_SECONDS_PER_TOKEN + len(answer) * DECODE_SECONDS_PER_TOKEN
        )
        said = {"role": "assistant", "content": " ".join(answer)}
        self._cache.keep([*prompt, *tokens_of([said])])
        return _answer(said, prompt=len(prompt), cached=cached)


def tokens_of(messages: Iterable[dict[str, Any]]) -> list[str]:
    return [word for one in messages for word in (one["role"], *one["content"].split())]


def _answer(said: dict[str, str], *, prompt: int, cached: int) -> web.Response:
    content = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": said, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": cached}},
    }
    return web.Response(body=orjson.dumps(content), content_type="application/json")


async def _serve() -> None:
    replica, application = Replica(), web.Application()
    application.router.add_post("/reset", replica.reset)
    application.router.add_post("/v1/chat/completions", replica.chat)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"Listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
