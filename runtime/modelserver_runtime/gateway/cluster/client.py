"""A small client of the Kubernetes API: get, patch, and a stream of events.

Of our own, over the connection that the gateway has anyway: the libraries for it bring an HTTP
client each, and take longer to import than the whole gateway takes to start, for three verbs.
Each request has a connection of its own. They are rare; and the token and the certificates, which
the kubelet renews in place, are then read each time.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from modelserver_runtime.errors import (
    ApiConflict,
    ApiExpired,
    ApiNotFound,
    ApiRefused,
    ApiUnavailable,
    ClusterFailure,
    UpstreamFailure,
)
from modelserver_runtime.gateway.headers import head_of
from modelserver_runtime.gateway.upstream import Connection

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}
_FIRST_ERROR = 300
_FAILURES: dict[int, type[ClusterFailure]] = {
    401: ApiRefused,
    403: ApiRefused,
    404: ApiNotFound,
    409: ApiConflict,
    410: ApiExpired,
}
_MOST_MESSAGE = 300
_USER_AGENT = b"modelserver-gateway"
MERGE_PATCH = b"application/merge-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Where the API is, and the files that open it; an address with http needs none."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None

    def token(self) -> str:
        return self.token_file.read_text().strip() if self.token_file else ""

    def tls(self) -> ssl.SSLContext | None:
        if urlsplit(self.url).scheme != "https":
            return None
        return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)


class ApiClient:
    """Raises ClusterFailure."""

    def __init__(self, account: Account) -> None:
        self._account = account

    async def get(self, target: str) -> Any:
        return await self._ask("GET", target)

    async def patch(self, target: str, body: Any) -> Any:
        return await self._ask("PATCH", target, orjson.dumps(body))

    async def lines(self, target: str, silence_seconds: float) -> AsyncGenerator[bytes]:
        """Of an answer that does not end; a connection that says nothing for so long is dead."""
        async with self._answer("GET", target, b"") as connection:
            rest = b""
            while chunk := await connection.chunk(silence_seconds):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    yield line

    async def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        async with self._answer(method, target, body) as connection:
            return orjson.loads(await _whole(connection))

    @contextlib.asynccontextmanager
    async def _answer(self, method: str, target: str, body: bytes) -> AsyncIterator[Connection]:
        try:
            connection = await self._connect()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ApiUnavailable(f"{self._account.url} cannot be reached: {error}") from error
        try:
            connection.ask(method, self._head(method, target, body) + body)
            head = await connection.head(_ANSWER_SECONDS)
            if head.status >= _FIRST_ERROR:
                raise _failure(method, target, head.status, await _whole(connection))
            yield connection
        except UpstreamFailure as error:
            raise ApiUnavailable(f"{method} {target} broke off: {error}") from error
        finally:
            connection.close()

    async def _connect(self) -> Connection:
        parts = urlsplit(self._account.url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(loop.time()), host, port, ssl=self._account.tls()
            )
        return connection

    def _head(self, method: str, target: str, body: bytes) -> bytes:
        headers = [
            (b"host", urlsplit(self._account.url).netloc.encode()),
            (b"accept", b"application/json"),
            (b"user-agent", _USER_AGENT),
            (b"connection", b"close"),
        ]
        if token := self._account.token():
            headers.append((b"authorization", b"Bearer " + token.encode()))
        if body:
            headers.append((b"content-type", MERGE_PATCH))
            headers.append((b"content-length", b"%d" % len(body)))
        return head_of(method, target.encode(), headers)


async def _whole(connection: Connection) -> bytes:
    parts = []
    while part := await connection.chunk(_ANSWER_SECONDS):
        parts.append(part)
    return b"".join(parts)


def _failure(method: str, target: str, status: int, content: bytes) -> ClusterFailure:
    with contextlib.suppress(orjson.JSONDecodeError, AttributeError):
        content = str(orjson.loads(content).get("message", "")).encode()
    said = content.decode(errors="replace")[:_MOST_MESSAGE]
    kind = _FAILURES.get(status, ApiUnavailable)
    return kind(f"{method} {target.partition('?')[0]} was answered with {status}: {said}")
