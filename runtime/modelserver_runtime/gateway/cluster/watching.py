"""One collection of the API, listed and then followed: what is there, and what changes.

list (pages) ─▶ replace ─▶ watch ─▶ events ─┬─ its end, or silence: watched on from the last version
   ▲                                        └─ 410, the version is too old: listed again
   └──── after a failure, later each time ◀──
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import orjson

from modelserver_runtime.errors import ApiExpired, ApiRefused, ApiUnavailable, ClusterFailure
from modelserver_runtime.gateway.cluster.client import ApiClient

log = logging.getLogger(__name__)

type Item = Mapping[str, Any]

_PAGE_ITEMS = 500
_WATCH_SECONDS = 300
# A bookmark comes once a minute; without one for so long the other end has gone silently.
_SILENCE_SECONDS = 150.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_EXPIRED = 410


class Follower(Protocol):
    def replace(self, items: Sequence[Item]) -> None:
        """This is all there is."""

    def apply(self, kind: str, item: Item) -> None:
        """`kind` is ADDED, MODIFIED or DELETED."""


class Watch:
    """`is_known` after the first list; `problem` is why it is not followed just now, or empty."""

    def __init__(
        self,
        client: ApiClient,
        path: str,
        follower: Follower,
        *,
        selector: str = "",
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.is_known = False
        self.problem = ""
        self._client = client
        self._path = path
        self._follower = follower
        self._selector = {"labelSelector": selector} if selector else {}
        self._on_change = on_change
        self._version = ""
        self._pause = _FIRST_PAUSE_SECONDS

    async def run(self) -> None:
        """Never returns."""
        while True:
            try:
                await self._turn()
            except ApiExpired:
                log.info("What was known of %s is too old; listing it again", self._path)
                self._version = ""
            except (ClusterFailure, orjson.JSONDecodeError) as error:
                self._say(error)
            else:
                continue
            await self._rest()

    async def _turn(self) -> None:
        if not self._version:
            await self._list()
        await self._follow()

    async def _list(self) -> None:
        items: list[Item] = []
        more: dict[str, str] = {}
        while True:
            page = await self._client.get(self._target(limit=str(_PAGE_ITEMS), **more))
            items += page.get("items") or ()
            token = page["metadata"].get("continue")
            if not token:
                break
            more = {"continue": token}
        self._follower.replace(items)
        self._version = page["metadata"]["resourceVersion"]
        self._is_well()
        self.is_known = True

    async def _follow(self) -> None:
        target = self._target(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=str(_WATCH_SECONDS + random.randrange(60)),  # noqa: S311  spreads load
        )
        async with contextlib.aclosing(self._client.lines(target, _SILENCE_SECONDS)) as lines:
            async for line in lines:
                self._take(orjson.loads(line))

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            failure = ApiExpired if item.get("code") == _EXPIRED else ApiUnavailable
            raise failure(f"The watch of {self._path} ended: {item.get('message', '')}")
        self._version = item["metadata"]["resourceVersion"]
        self._is_well()
        if kind != "BOOKMARK":
            self._follower.apply(kind, item)

    def _is_well(self) -> None:
        self._pause = _FIRST_PAUSE_SECONDS
        if self.problem:
            log.info("%s can be followed again", self._path)
        self.problem = ""
        self._on_change()

    def _say(self, error: Exception) -> None:
        advice = "; grant it to the gateway's ServiceAccount" * isinstance(error, ApiRefused)
        problem = f"{error}{advice}"
        if problem != self.problem:
            log.warning("%s cannot be followed: %s", self._path, problem)
        self.problem = problem
        self._on_change()

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311, TID251  a pause for the API server
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    def _target(self, **parameters: str) -> str:
        return f"{self._path}?{urlencode({**self._selector, **parameters})}"
