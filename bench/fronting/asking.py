"""Asks a server over HTTP and notes when, and reads its metrics."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from bench.fronting.serving import ServerFailed

_LIMIT_SECONDS = 300.0
_TOTAL = re.compile(r"total;dur=([\d.]+)")

type Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`seconds` as the client sees them; `server_seconds` as Server-Timing says, to 0.1 ms."""

    status: int
    seconds: float
    headers: Mapping[str, str]
    body: bytes

    @property
    def server_seconds(self) -> float:
        found = _TOTAL.search(self.headers.get("server-timing", ""))
        if found is None:
            raise ServerFailed("An answer has no total in Server-Timing")
        return float(found[1]) / 1000

    @property
    def cache(self) -> str:
        return self.headers.get("x-cache", "")

    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """Every answer must be good: a benchmark of refusals would measure nothing."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, path: str, body: Body) -> Reply:
        began = perf_counter()
        async with self._session.post(self._url + path, json=body) as response:
            content = await response.read()
            seconds = perf_counter() - began
            if not response.ok:
                raise ServerFailed(f"{path}: {response.status}: {content[:500]!r}")
            headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status, seconds=seconds, headers=headers, body=content)

    async def post_all(self, path: str, bodies: Sequence[Body], *, concurrency: int) -> list[Reply]:
        """Each body once, so many at a time; replies in the order of the bodies."""
        replies: list[Reply | None] = [None] * len(bodies)
        waiting = iter(enumerate(bodies))

        async def ask_one_after_another() -> None:
            for index, body in waiting:
                replies[index] = await self.post(path, body)

        tasks = [asyncio.create_task(ask_one_after_another()) for _ in range(concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return [reply for reply in replies if reply is not None]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum over all series that have these labels."""
        async with self._session.get(f"{self._url}/metrics") as response:
            page = await response.text()
        samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=_LIMIT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, json_serialize=lambda it: orjson.dumps(it).decode()
    ) as session:
        yield Client(session, url)
