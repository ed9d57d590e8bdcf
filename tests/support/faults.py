"""What can go wrong between an operator and its API server, as values that the proxy obeys."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from aiohttp import web

from support.api_request import ApiRequest

type Side = Literal["before", "after"]
type Predicate = Callable[[ApiRequest], bool]

_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Victim(Protocol):
    def kill(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Seen:
    """A request that came; `status` 0 means that it got no answer."""

    at: float  # time.monotonic()
    request: ApiRequest
    query: dict[str, str]
    user_agent: str
    body: bytes
    status: int = 0

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.request} -> {self.status or 'no answer'}"


def is_counted(request: ApiRequest) -> bool:
    """Writes that follow from what happened; renewing the Lease follows from the clock."""
    return request.is_write and request.resource != "leases"


@dataclass(slots=True, kw_only=True)
class KillPoint:
    """Kills once, at the `number`-th matching write; `hit` says which request that was."""

    number: int
    side: Side
    victim: Victim
    where: Predicate = is_counted
    count: int = 0
    hit: ApiRequest | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def is_reached_by(self, request: ApiRequest) -> bool:
        if self.hit is not None or not self.where(request):
            return False
        self.count += 1
        if self.count != self.number:
            return False
        self.hit = request
        return True

    def strike(self) -> None:
        self.victim.kill()
        self.done.set()


@dataclass(slots=True, kw_only=True)
class Failure:
    """An answer that the API server did not give; `met` counts how often it was given."""

    status: int
    where: Predicate
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = None
    met: int = 0

    def meets(self, request: ApiRequest) -> bool:
        if self.times == 0 or not self.where(request):
            return False
        self.times = None if self.times is None else self.times - 1
        self.met += 1
        return True


@dataclass(slots=True, kw_only=True)
class Postponed:
    """One request that is long on its way; `arrived` says that it waits at the proxy."""

    where: Predicate
    request: ApiRequest | None = None
    status: int = 0  # what the API server answered in the end
    arrived: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, request: ApiRequest) -> bool:
        if self.request is not None or not self.where(request):
            return False
        self.request = request
        self.arrived.set()
        return True

    def answer(self, status: int) -> None:
        self.status = status
        self.answered.set()


@dataclass(slots=True, kw_only=True)
class DroppedEvents:
    """Watch events that are kept from the client; `names` are those of the objects."""

    type: str
    resource: str | None = None
    times: int | None = None
    names: list[str] = field(default_factory=list)

    def takes(self, request: ApiRequest, event: dict[str, Any]) -> bool:
        if event["type"] != self.type or self.resource not in {None, request.resource}:
            return False
        if self.times is not None and len(self.names) >= self.times:
            return False
        self.names.append(event["object"]["metadata"]["name"])
        return True


@dataclass(slots=True, eq=False)
class Stream:
    """A watch that is open at this moment; used in the proxy's loop only."""

    request: ApiRequest
    response: web.StreamResponse
    incoming: web.BaseRequest
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, line: bytes) -> None:
        async with self.lock:
            await self.response.write(line)

    async def try_send(self, last: bytes) -> bool:
        """Sends a last line and ends the stream, unless it has ended already."""
        if self.incoming.transport is None or self.incoming.transport.is_closing():
            return False
        await self.send(last)
        asyncio.get_running_loop().call_later(0.05, self.cut)
        return True

    def cut(self) -> None:
        abort(self.incoming)


def abort(incoming: web.BaseRequest) -> None:
    """Ends the connection of a request at once, if the client has not done so."""
    if isinstance(incoming.transport, asyncio.Transport):
        incoming.transport.abort()


def status_object(code: int, message: str = "injected by the test") -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "InternalError"),
        "code": code,
    }


def error_event(code: int) -> bytes:
    return json.dumps({"type": "ERROR", "object": status_object(code)}).encode() + b"\n"
