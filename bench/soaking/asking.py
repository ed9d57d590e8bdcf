"""One client of the soak: how it asks, and what every answer must fulfil."""

import contextlib
import itertools
import random
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp
import orjson

from bench.soaking.marks import Known, Pool
from bench.soaking.tally import AdmissionLog, Fault, Tally

# The smallest that the kernel gives, so that a slow reader is felt by the server.
_SMALL_BUFFER_BYTES = 4096
_LIMIT_SECONDS = 120.0
NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """`limited` may ask `limit` times a minute; `revoked` is a key that nobody knows."""

    worker: str
    limited: str
    revoked: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    chats: Pool = field(default_factory=Pool)
    long_chats: Pool = field(default_factory=Pool)
    completions: Pool = field(default_factory=Pool)
    embeddings: Pool = field(default_factory=Pool)
    predictions: Pool = field(default_factory=Pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How something is asked, and which statuses are right; no `key` is the worker's."""

    expected: Sequence[int] = (200,)
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    is_slow: bool = False


USUAL = Manner()
UNCACHED = Manner(headers=NO_STORE)


class Asker:
    """What the scripts of `bench.soaking.scripts` ask with."""

    def __init__(self, url: str, keys: Keys, tally: Tally, *, seed: int) -> None:
        self.url = url
        self.keys = keys
        self.tally = tally
        self.pools = Pools()
        self.chance = random.Random(seed)
        self.admissions = AdmissionLog(keys.limit)
        self._numbers = itertools.count(1)
        self._session: aiohttp.ClientSession
        self._slow_session: aiohttp.ClientSession

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Asker"]:
        timeout = aiohttp.ClientTimeout(total=_LIMIT_SECONDS)
        usual = aiohttp.TCPConnector(limit=0)
        slow = aiohttp.TCPConnector(limit=0, socket_factory=_small_socket, force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=usual) as self._session,
            aiohttp.ClientSession(
                timeout=timeout, connector=slow, read_bufsize=_SMALL_BUFFER_BYTES
            ) as self._slow_session,
        ):
            yield self

    @contextlib.asynccontextmanager
    async def request(
        self, kind: str, route: str, body: Any, manner: Manner = USUAL
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Counts the request, and checks its status and that the answer is to this one."""
        own_id = f"soak-{next(self._numbers)}"
        headers = self._headers(own_id, manner)
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        session = self._slow_session if manner.is_slow else self._session
        self.tally.requests[kind] += 1
        async with session.request(
            manner.method, self.url + route, data=data, headers=headers
        ) as response:
            await self._check(kind, response, own_id, manner.expected)
            yield response

    def _headers(self, own_id: str, manner: Manner) -> dict[str, str]:
        key = self.keys.worker if manner.key is None else manner.key
        return {
            "content-type": "application/json",
            "x-request-id": own_id,
            **({"authorization": f"Bearer {key}"} if key else {}),
            **manner.headers,
        }

    async def _check(
        self, kind: str, response: aiohttp.ClientResponse, own_id: str, expected: Sequence[int]
    ) -> None:
        self.tally.statuses[response.status] += 1
        self.tally.caches[response.headers.get("x-cache", "none")] += 1
        if response.headers.get("x-request-id") != own_id:
            self.tally.fault(Fault.SWAPPED, f"{kind}: the answer has another request's id")
        if response.status not in expected:
            text = (await response.read())[:300]
            self.tally.fault(Fault.UNEXPECTED_STATUS, f"{kind}: {response.status}: {text!r}")

    async def whole(self, kind: str, pool: Pool, mine: Known, manner: Manner = USUAL) -> None:
        """Asks without streaming, and judges what comes."""
        question = mine.question
        async with self.request(kind, question.route, question.body, manner) as response:
            if not response.ok:
                return
            answer = orjson.loads(await response.read())
        if "id" in answer:
            self.tally.note_id(kind, answer["id"])
        mark = question.read(answer)
        self.tally.note_verdict(kind, pool.judge(mine, mark), mark)

    def some(self, pool: Pool) -> Known:
        return self.chance.choice(pool.known)

    def either(self) -> Manner:
        """Half of the requests want to be computed."""
        return UNCACHED if self.chance.random() < 0.5 else USUAL

    async def limited(self, kind: str, pool: Pool, mine: Known) -> None:
        sent = perf_counter()
        question = mine.question
        manner = Manner(key=self.keys.limited, expected=(200, 429))
        async with self.request(kind, question.route, question.body, manner) as response:
            if response.status == 429:
                if "retry-after" not in response.headers:
                    self.tally.fault(Fault.UNEXPECTED_STATUS, f"{kind}: 429 without Retry-After")
                return
            answer = orjson.loads(await response.read())
        if not self.admissions.note(sent, perf_counter()):
            self.tally.fault(Fault.UNEXPECTED_STATUS, f"{kind}: more let in than the limit")
        mark = question.read(answer)
        self.tally.note_verdict(kind, pool.judge(mine, mark), mark)


def _small_socket(address: Any) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
    return made
