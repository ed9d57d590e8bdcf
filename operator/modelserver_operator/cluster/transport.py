"""HTTP to the API server: one pool, our credentials, deadlines, and errors in our own words."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import orjson

from modelserver_operator.cluster.access import Access, Token
from modelserver_operator.errors import (
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Rejected,
    Unavailable,
)

USER_AGENT = "modelserver-operator"
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
MOST_REQUESTS_IN_FLIGHT = 32
UNSTOPPABLE = "Lease"
LONGEST_WAIT_SECONDS = 60.0  # whatever Retry-After says

NO_ANSWER = 0
UNAUTHORIZED = 401
FIRST_ERROR = 400
TOO_MANY_REQUESTS = 429
FIRST_SERVER_ERROR = 500


class RequestObserver(Protocol):
    """Told of every request when it ends; `code` is 0 where no answer came."""

    def __call__(self, *, verb: str, kind: str, code: int) -> None: ...


METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`verb` and `kind` are RBAC's words (patch, `ModelServer/status`); metrics use them too."""

    verb: str
    kind: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = "application/json"


def open_session(
    access: Access, *, limit: int, also: aiohttp.ClientMiddlewareType | None = None
) -> aiohttp.ClientSession:
    """A session that puts our token on every request, and reads it again when it is refused.

    `also` sees every request once, whether it had to be signed twice or not.
    """
    signing = _bearer(access.token) if access.token else None
    connector = aiohttp.TCPConnector(limit=limit, ssl=access.tls or True)
    return aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        middlewares=tuple(one for one in (also, signing) if one),
        trust_env=False,
    )


def _bearer(token: Token) -> aiohttp.ClientMiddlewareType:
    async def authenticate(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        now = asyncio.get_running_loop().time
        used = token.read(now())
        response = await handler(_signed(request, used))
        if response.status != UNAUTHORIZED:
            return response
        token.expire()
        fresh = token.read(now())
        if fresh == used:
            return response
        response.release()
        return await handler(_signed(request, fresh))

    return authenticate


def _signed(request: aiohttp.ClientRequest, token: str) -> aiohttp.ClientRequest:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


class Transport:
    """Sends requests and opens watch streams; everything that goes wrong is a ClusterError."""

    def __init__(self, access: Access, observer: RequestObserver) -> None:
        self._access = access
        self._observer = observer
        self._wait_until = 0.0

    async def __aenter__(self) -> Self:
        self._requests = open_session(self._access, limit=MOST_REQUESTS_IN_FLIGHT)
        self._streams = open_session(self._access, limit=0)  # a watch holds its connection
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._requests.close()
        await self._streams.close()

    async def send(self, request: Request) -> dict[str, Any]:
        """The JSON of the answer.

        When the server has asked us to wait, nothing is sent until then: whoever asks gets the same
        refusal at once. Only the Lease is renewed.
        """
        if request.kind != UNSTOPPABLE:
            self._check_wait()
        async with self._answer(self._requests, request, REQUEST_TIMEOUT) as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def lines(self, request: Request, *, silence_seconds: float) -> AsyncGenerator[bytes]:
        """The lines of a stream as they come; a longer silence counts as a dead peer."""
        patience = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_seconds)
        async with self._answer(self._streams, request, patience) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line

    @asynccontextmanager
    async def _answer(
        self, session: aiohttp.ClientSession, request: Request, patience: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        code = NO_ANSWER
        try:
            async with self._sent(session, request, patience) as response:
                code = response.status
                if code >= FIRST_ERROR:
                    refusal = await _refusal(response, request)
                    self._heed(refusal)
                    raise refusal
                yield response
        except (aiohttp.ClientError, TimeoutError, ValueError) as e:
            raise Unavailable(f"{_name(request)}: no answer from the API server: {e!r}") from e
        finally:
            self._observer(verb=request.verb, kind=request.kind, code=code)

    def _check_wait(self) -> None:
        left = self._wait_until - asyncio.get_running_loop().time()
        if left > 0:
            raise Unavailable(
                f"the API server has asked us to wait for another {left:.1f} s",
                status=TOO_MANY_REQUESTS,
                retry_after_seconds=left,
            )

    def _heed(self, refusal: ClusterError) -> None:
        if isinstance(refusal, Unavailable) and refusal.retry_after_seconds:
            seconds = min(refusal.retry_after_seconds, LONGEST_WAIT_SECONDS)
            self._wait_until = asyncio.get_running_loop().time() + seconds

    def _sent(
        self, session: aiohttp.ClientSession, request: Request, patience: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {} if request.body is None else {"Content-Type": request.content_type}
        return session.request(
            METHODS[request.verb],
            self._access.server + request.path,
            params=request.params,
            data=None if request.body is None else orjson.dumps(request.body),
            headers=headers,
            timeout=patience,
        )


async def _refusal(response: aiohttp.ClientResponse, request: Request) -> ClusterError:
    body = await response.read()
    try:
        status = orjson.loads(body)
        message, reason = str(status["message"]), str(status.get("reason", ""))
    except (ValueError, KeyError, TypeError):  # a proxy in between, not the API server
        message, reason = body[:200].decode(errors="replace"), ""
    return translate(
        f"{_name(request)}: {message}",
        status=response.status,
        reason=reason,
        retry_after=response.headers.get("Retry-After", ""),
    )


def translate(
    message: str, *, status: int, reason: str = "", retry_after: str = ""
) -> ClusterError:
    """The error of ours that an HTTP status of the API server means."""
    if status == TOO_MANY_REQUESTS or status >= FIRST_SERVER_ERROR:
        seconds = float(retry_after) if retry_after.isdigit() else None
        return Unavailable(message, status=status, reason=reason, retry_after_seconds=seconds)
    return _kind_of(status, message)(message, status=status, reason=reason)


def _kind_of(status: int, message: str) -> type[ClusterError]:
    match status:
        case 404:
            return NotFound
        case 409:
            return Conflict
        case 410:
            return Expired
        case 401:
            return Forbidden
        case 403 if _is_rbac(message):
            return Forbidden
        case _:
            return Rejected


def _is_rbac(message: str) -> bool:
    """403 is also the answer of quotas and of terminating namespaces; those do not name a User."""
    return 'User "' in message and " cannot " in message


def _name(request: Request) -> str:
    return f"{METHODS[request.verb]} {request.path}"
