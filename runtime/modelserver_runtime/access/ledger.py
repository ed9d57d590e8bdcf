"""What each key has used: requests, tokens, errors, and when last."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from modelserver_runtime.storage import RedisStore, Script
from modelserver_runtime.telemetry import Telemetry

# What was used is written to Redis together, at most once in this time.
_FLUSH_SECONDS = 1.0
# A write whose answer was lost is sent again under its number, and counts once. Numbers are kept
# for much longer than any pause of the connection.
_NUMBER_SECONDS = 3600
_SUMS = ("requests", "errors", "prompt_tokens", "completion_tokens")

# KEYS: the number of this write, then a hash for each entry. ARGV: how long the number is kept; of
# each entry the sums, then the last use.
_ADD = Script(
    name="ledger-add",
    text=f"""
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
local sums = {{{", ".join(repr(name) for name in _SUMS)}}}
for i = 2, #KEYS do
  local at = 1 + (i - 2) * (#sums + 1)
  for j, name in ipairs(sums) do redis.call('HINCRBY', KEYS[i], name, ARGV[at + j]) end
  local last, before = ARGV[at + #sums + 1], redis.call('HGET', KEYS[i], 'last_used')
  if not before or tonumber(before) < tonumber(last) then
    redis.call('HSET', KEYS[i], 'last_used', last)
  end
end
return 1
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one request, as models have seen and made them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`last_used` is a Unix time in seconds, 0 for never."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    last_used: float = 0.0

    def plus(self, other: "Entry") -> "Entry":
        return Entry(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            last_used=max(self.last_used, other.last_used),
        )


class Ledger:
    """In Redis for all replicas, where there is one; else of this process since its start.

    `clock` is monotonic; `wall_clock` gives Unix time, both in seconds.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        store: RedisStore | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._own: dict[str, Entry] = {}
        self._pending: dict[str, Entry] = {}
        self._sending: tuple[str, dict[str, Entry]] | None = None
        self._is_flushing = False
        self._next_flush = float("-inf")

    @property
    def place(self) -> str:
        return "redis" if self._store is not None else "memory"

    def note(self, key_id: str, usage: Usage, *, is_error: bool) -> None:
        entry = Entry(
            requests=1,
            errors=int(is_error),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            last_used=self._wall_clock(),
        )
        self._own[key_id] = self._own.get(key_id, Entry()).plus(entry)
        if self._store is not None:
            self._pending[key_id] = self._pending.get(key_id, Entry()).plus(entry)
        self._telemetry.observe_key(
            key_id,
            is_error=is_error,
            prompt=usage.prompt_tokens,
            completion=usage.completion_tokens,
        )

    def forget(self, key_id: str) -> None:
        """Of a key that was revoked no more series are exported."""
        self._telemetry.forget_key(key_id)

    async def flush(self, *, is_due: bool = False) -> None:
        """Writes what is pending; unless `is_due`, only if the last time was long enough ago."""
        now = self._clock()
        if self._store is None or self._is_flushing or not (is_due or now >= self._next_flush):
            return
        self._next_flush = now + _FLUSH_SECONDS
        self._is_flushing = True
        try:
            await self._send(self._store)
        finally:
            self._is_flushing = False

    async def entries(self, key_ids: list[str]) -> tuple[Mapping[str, Entry], str]:
        """What was used, and where that was counted: redis, or memory if it does not answer."""
        await self.flush(is_due=True)
        if self._store is not None:
            read = await self._read(self._store, key_ids)
            if read is not None:
                return read, "redis"
        return {key_id: self._own.get(key_id, Entry()) for key_id in key_ids}, "memory"

    async def _send(self, store: RedisStore) -> None:
        if self._sending is None:
            if not self._pending:
                return
            self._sending = (secrets.token_hex(8), self._pending)
            self._pending = {}
        number, entries = self._sending
        names = [f"usage:write:{number}", *(f"usage:{key_id}" for key_id in entries)]
        arguments: list[str | float] = [_NUMBER_SECONDS]
        for entry in entries.values():
            arguments += [*(getattr(entry, name) for name in _SUMS), repr(entry.last_used)]
        if await store.run(_ADD, names, arguments) is not None:
            self._sending = None

    async def _read(self, store: RedisStore, key_ids: list[str]) -> dict[str, Entry] | None:
        """With what is still on its way."""
        found: dict[str, Entry] = {}
        waiting = [self._pending, *([self._sending[1]] if self._sending else [])]
        for key_id in key_ids:
            fields = await store.fields(f"usage:{key_id}")
            if fields is None:
                return None
            entry = _entry({name.decode(): value.decode() for name, value in fields.items()})
            for part in waiting:
                entry = entry.plus(part.get(key_id, Entry()))
            found[key_id] = entry
        return found


def _entry(fields: Mapping[str, str]) -> Entry:
    sums = {name: int(fields.get(name, "0")) for name in _SUMS}
    return replace(Entry(**sums), last_used=float(fields.get("last_used", "0")))
