"""Keys, for who may administer them: all that there are, new ones, and the end of one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from modelserver_runtime.access.guard import Guard
from modelserver_runtime.access.ledger import Entry
from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.principal import ApiKey, Source
from modelserver_runtime.access.record import Grants
from modelserver_runtime.errors import Conflict, InvalidRequest, ResourceNotFound
from modelserver_runtime.gateway.page.words import duration

_NOTES = {
    "redis": "All replicas of the gateway know it.",
    "file": "This replica of the gateway knows it, and keeps it when it starts again.",
    "memory": "Only this replica of the gateway knows it, until it ends: give the gateway Redis "
    "to keep keys.",
}


class WantedKey(Grants):
    name: Annotated[
        str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")
    ]
    expires_in_seconds: Annotated[float, Field(gt=0, le=10 * 365 * 86400)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """`is_ours`: it was generated, so it can be revoked here."""

    id: str
    name: str
    prefix: str
    scopes: str
    models: str
    limits: str
    used: str
    last_used: str
    expires: str
    is_expired: bool
    is_ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """`made` is the secret of the key that was just made, which nothing else has."""

    rows: tuple[KeyRow, ...]
    problems: tuple[str, ...]
    note: str
    made: str = ""
    made_name: str = ""


class KeyDesk:
    """`wall_clock` gives Unix time."""

    def __init__(self, guard: Guard, wall_clock: Callable[[], float]) -> None:
        self._guard = guard
        self._wall_clock = wall_clock

    async def table(self) -> KeyTable:
        return await self._table()

    async def make(self, body: bytes) -> KeyTable:
        wanted = _wanted(body)
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        seconds = wanted.expires_in_seconds
        expires = wanted.expires if seconds is None else now + timedelta(seconds=seconds)
        secret, key = make_key(wanted, name=wanted.name, created=now, expires=expires)
        await self._guard.keyring.add(key)
        return await self._table(made=secret, made_name=key.name)

    async def revoke(self, key_id: str) -> KeyTable:
        known = {key.id: key for key in await self._guard.keyring.all()}
        key = known.get(key_id)
        if key is not None and key.source is Source.SECRET:
            raise Conflict(f"The key {key.name!r} comes from the mounted Secret; remove it there")
        if not await self._guard.keyring.remove(key_id):
            raise ResourceNotFound(f"There is no key {key_id!r} any more")
        self._guard.ledger.forget(key_id)
        return await self._table()

    async def _table(self, *, made: str = "", made_name: str = "") -> KeyTable:
        keyring = self._guard.keyring
        keys = sorted(await keyring.all(), key=lambda key: (key.name, key.id))
        entries, _ = await self._guard.ledger.entries([key.id for key in keys])
        now = self._wall_clock()
        return KeyTable(
            rows=tuple(_row(key, entries[key.id], now) for key in keys),
            problems=tuple(f"{place}: {text}" for place, text in keyring.problems().items()),
            note=_NOTES[keyring.generated.place],
            made=made,
            made_name=made_name,
        )


def _wanted(body: bytes) -> WantedKey:
    try:
        return WantedKey.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(f"{path}: {message}" if path else message) from error


def _row(key: ApiKey, entry: Entry, now: float) -> KeyRow:
    tokens = entry.prompt_tokens + entry.completion_tokens
    return KeyRow(
        id=key.id,
        name=key.name,
        prefix=f"{key.prefix}…" if key.prefix else "",
        scopes=", ".join(sorted(key.scopes)),
        models=_models(key),
        limits=", ".join(_limits(key)) or "the gateway's",
        used=f"{entry.requests:,} requests" + (f", {tokens:,} tokens" if tokens else ""),
        last_used=f"{duration(now - entry.last_used)} ago" if entry.last_used else "never",
        expires=_expires(key, now),
        is_expired=key.has_expired(now),
        is_ours=key.source is Source.GENERATED,
    )


def _models(key: ApiKey) -> str:
    models = ", ".join(key.models) or "every model"
    return f"{models} of {', '.join(key.namespaces)}" if key.namespaces else models


def _limits(key: ApiKey) -> Iterator[str]:
    limits = key.limits
    if limits.requests_per_minute:
        yield f"{limits.requests_per_minute:,} requests/min"
    if limits.tokens_per_minute:
        yield f"{limits.tokens_per_minute:,} tokens/min"
    if limits.concurrent_requests:
        yield f"{limits.concurrent_requests:,} at once"


def _expires(key: ApiKey, now: float) -> str:
    if key.expires is None:
        return "never"
    left = key.expires.timestamp() - now
    return f"in {duration(left)}" if left > 0 else "expired"
