"""The one connection to Redis of this process."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Settings
from modelserver_runtime.storage.pause import Pause
from modelserver_runtime.telemetry import Telemetry

log = logging.getLogger(__name__)

# Enough that requests do not queue up behind each other's half a millisecond; Redis takes 10,000.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A Lua program, which Redis runs without anybody else in between."""

    name: str
    text: str


class RedisStore:
    """Keys are given without the prefix, under which everything of this server lies.

    No method raises because of Redis: None says that it was not reached, within the time-out, and
    at once while Redis is given a pause. What such a write has done is unknown.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, clock: Callable[[], float]
    ) -> None:
        self._prefix = settings.redis_prefix
        self._seconds = settings.redis_timeout_seconds
        # Its commands are typed for synchronous and asynchronous clients at once.
        self._redis: Any = _client(settings)
        self._telemetry = telemetry
        self._clock = clock
        self._pause = Pause()
        self._scripts: dict[str, AsyncScript] = {}
        # Until it is asked nobody knows; a first failure says 0.
        telemetry.redis_up.set(1)

    @property
    def is_reachable(self) -> bool:
        """As of the last time that it was asked."""
        return self._pause.is_well

    @property
    def seconds_until_asked(self) -> float:
        return self._pause.seconds_left(self._clock())

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None] | None:
        """In the order of `keys`; inside the list, None is a key without a value."""
        if not keys:
            return []
        names = [self._prefix + key for key in keys]
        return await self._ask("get", lambda: self._redis.mget(names))

    async def put(
        self, key: str, value: bytes, ttl_seconds: float | None = None
    ) -> Literal[True] | None:
        """True once it is stored."""
        name, milliseconds = self._prefix + key, _milliseconds(ttl_seconds)
        return await self._ask("put", lambda: self._redis.set(name, value, px=milliseconds))

    async def put_if_absent(
        self, key: str, value: bytes, ttl_seconds: float | None = None
    ) -> bool | None:
        """Whether it was absent, and is stored now."""
        name, milliseconds = self._prefix + key, _milliseconds(ttl_seconds)

        async def put() -> bool:
            return bool(await self._redis.set(name, value, px=milliseconds, nx=True))

        return await self._ask("put", put)

    async def delete(self, *keys: str) -> int | None:
        """How many there were."""
        if not keys:
            return 0
        names = [self._prefix + key for key in keys]
        return await self._ask("delete", lambda: self._redis.delete(*names))

    async def increment(self, key: str) -> int | None:
        """The new number; the first is 1. A number inside other keys forgets them all at once."""
        return await self._ask("increment", lambda: self._redis.incr(self._prefix + key))

    async def fields(self, key: str) -> Mapping[bytes, bytes] | None:
        """All of a hash; empty if there is none."""
        return await self._ask("fields", lambda: self._redis.hgetall(self._prefix + key))

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | float]
    ) -> Any:
        """The script's answer as redis-py gives it; the script sees the keys with their prefix."""
        known = self._scripts.get(script.name)
        if known is None:
            known = self._scripts[script.name] = self._redis.register_script(script.text)
        names = [self._prefix + key for key in keys]
        return await self._ask(script.name, lambda: known(keys=names, args=list(arguments)))

    async def ping(self) -> Literal[True] | None:
        return await self._ask("ping", self._redis.ping)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _ask[T](self, what: str, command: Callable[[], Awaitable[T]]) -> T | None:
        began = self._clock()
        if not self._pause.may_ask(began):
            return None
        try:
            async with asyncio.timeout(self._seconds):
                answer = await command()
        except (RedisError, OSError, TimeoutError) as error:
            await self._failed(what, error, began)
            return None
        except BaseException:
            self._pause.abandoned()
            raise
        self._succeeded()
        return answer

    async def _failed(self, what: str, error: Exception, began: float) -> None:
        self._telemetry.redis_errors.inc()
        self._telemetry.redis_up.set(0)
        if self._pause.is_well:
            log.warning("Redis does not answer (%s): %s", what, _reason(error))
        self._pause.failed(began=began, now=self._clock())
        # Connections to a Redis that is gone would each fail once more after it is back.
        await self._redis.connection_pool.disconnect(inuse_connections=False)

    def _succeeded(self) -> None:
        if not self._pause.is_well:
            log.warning("Redis answers again")
        self._pause.succeeded()
        self._telemetry.redis_up.set(1)


def open_store(
    settings: Settings, telemetry: Telemetry, clock: Callable[[], float]
) -> RedisStore | None:
    """None without MODELSERVER_REDIS_URL; connects when it is first asked."""
    return RedisStore(settings, telemetry, clock) if settings.redis_url else None


def _client(settings: Settings) -> Redis:
    seconds = settings.redis_timeout_seconds
    try:
        pool = BlockingConnectionPool.from_url(
            settings.redis_url,
            max_connections=_CONNECTIONS,
            timeout=seconds,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            # A pause follows a failure; trying again at once would only wait again.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        # The URL may hold a password, so it is not shown.
        raise InvalidConfiguration(
            f"MODELSERVER_REDIS_URL is no address of a Redis: {error}",
            hint="Write redis://HOST:6379/0, rediss:// for TLS, or unix:///PATH.",
        ) from error
    return Redis.from_pool(pool)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(1, math.ceil(seconds * 1000))


def _reason(error: Exception) -> str:
    """A time-out of asyncio has no text."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
