"""Where keys are that were generated while the server runs: memory, a file, or Redis."""

import asyncio
import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from modelserver_runtime.access.principal import ApiKey, Source
from modelserver_runtime.access.record import BadRecord, document_of, key_of
from modelserver_runtime.errors import KeysUnavailable
from modelserver_runtime.storage import RedisStore, Script

log = logging.getLogger(__name__)

type Keys = Mapping[str, ApiKey]


class KeyStore(Protocol):
    """`place` says where; `keys`, by id, is the last state that is known."""

    @property
    def place(self) -> str: ...

    @property
    def keys(self) -> Keys: ...

    @property
    def problem(self) -> str:
        """Why the state may be old, or empty."""
        ...

    async def refresh(self) -> bool:
        """False if the keys are not known at all, and never were."""
        ...

    async def add(self, key: ApiKey) -> None:
        """Raises KeysUnavailable when the key could not be kept."""
        ...

    async def remove(self, key_id: str) -> bool:
        """Whether it was there."""
        ...


class MemoryKeys:
    place = "memory"
    problem = ""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}

    async def refresh(self) -> bool:
        return True

    async def add(self, key: ApiKey) -> None:
        self.keys[key.id] = key

    async def remove(self, key_id: str) -> bool:
        return self.keys.pop(key_id, None) is not None


class FileKeys:
    """One JSON file, which the command line may change at the same time."""

    place = "file"

    def __init__(self, directory: Path) -> None:
        self._path = directory / "keys.json"
        self._signature: tuple[int, int, int] | None = None
        self.keys: Keys = {}
        self.problem = ""

    async def refresh(self) -> bool:
        await asyncio.to_thread(self._read)
        return True

    async def add(self, key: ApiKey) -> None:
        await asyncio.to_thread(self._change, lambda keys: {**keys, key.id: key})

    async def remove(self, key_id: str) -> bool:
        def without(keys: Keys) -> Keys:
            return {name: key for name, key in keys.items() if name != key_id}

        return key_id in await asyncio.to_thread(self._change, without)

    def _change(self, change: Callable[[Keys], Keys]) -> Keys:
        """The keys as they were before."""
        try:
            with self._locked():
                self._read()
                if self.problem:
                    # Writing would lose what a person can still mend.
                    raise KeysUnavailable(f"The keys are not changed: {self.problem}")
                before = self.keys
                self._write(change(before))
                self._read()
                return before
        except OSError as error:
            raise KeysUnavailable(
                f"The keys cannot be kept in {self._path.parent}: {error.strerror}; make "
                "MODELSERVER_ACCESS_STATE_DIRECTORY a directory that can be written"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with (self._path.parent / ".keys.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, keys: Keys) -> None:
        """Whole or not at all, and for nobody else to read."""
        content = json.dumps({"keys": [document_of(key) for key in keys.values()]}, indent=1)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".keys-")
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(self._path)

    def _read(self) -> None:
        try:
            stat = self._path.stat()
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if signature != self._signature:
                self.keys = _by_id(json.loads(self._path.read_text())["keys"])
                self._signature = signature
            self.problem = ""
        except FileNotFoundError:
            self.keys, self._signature, self.problem = {}, None, ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{self._path} cannot be read ({type(error).__name__}); mend or remove it"
            if problem != self.problem:
                log.error("%s", problem)  # noqa: TRY400  the trace would show the file's keys
            self.problem = problem


_ADD = Script(
    name="keys-add",
    text="redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('INCR', KEYS[2])",
)
_REMOVE = Script(
    name="keys-remove",
    text="""
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
if removed == 1 then redis.call('INCR', KEYS[2]) end
return removed
""",
)
# The version, and the keys if it is another than the one that is known.
_READ = Script(
    name="keys-read",
    text="""
local version = redis.call('GET', KEYS[2]) or '0'
if version == ARGV[1] then return {version} end
return {version, redis.call('HGETALL', KEYS[1])}
""",
)
# Only for a Redis that has lost everything: of several replicas the first one counts.
_RESTORE = Script(
    name="keys-restore",
    text="""
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[1])
return 1
""",
)
_NAMES = ("keys", "keys:version")


class RedisKeys:
    """Shared by replicas. Each knows all keys, so that they hold while Redis does not answer."""

    place = "redis"

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._version: int | None = None
        self.keys: Keys = {}

    @property
    def problem(self) -> str:
        if self._store.is_reachable:
            return ""
        return "Redis does not answer; generated keys are those of before"

    async def refresh(self) -> bool:
        known = "" if self._version is None else str(self._version)
        answer = await self._store.run(_READ, _NAMES, [known])
        if answer is not None:
            version, *content = answer
            await self._learn(int(version), content[0] if content else None)
        return self._version is not None

    async def _learn(self, version: int, content: list[bytes] | None) -> None:
        if version == 0 and self._version:
            await self._restore(self._version + 1)
        elif content is not None:
            self.keys = _by_id(_documents(content))
            self._version = version

    async def _restore(self, version: int) -> None:
        """A Redis without a volume has been started again; the keys are still known here."""
        pairs = [text for key in self.keys.values() for text in (key.id, _json(key))]
        if await self._store.run(_RESTORE, _NAMES, [version, *pairs]):
            log.warning("Redis had lost its keys; %d were written back", len(self.keys))
            self._version = version

    async def add(self, key: ApiKey) -> None:
        _require(await self._store.run(_ADD, _NAMES, [key.id, _json(key)]), "kept")
        await self.refresh()

    async def remove(self, key_id: str) -> bool:
        removed = _require(await self._store.run(_REMOVE, _NAMES, [key_id]), "revoked")
        await self.refresh()
        return bool(removed)


def _require(answer: int | None, what: str) -> int:
    if answer is None:
        raise KeysUnavailable(
            f"Redis does not answer, so it is not sure that the key is {what}; try again",
            retry_after_seconds=1,
        )
    return answer


def _json(key: ApiKey) -> str:
    return json.dumps(document_of(key))


def _documents(pairs: list[bytes]) -> Iterator[Any]:
    return (json.loads(text) for text in pairs[1::2])


def _by_id(documents: Iterable[Any]) -> Keys:
    """A record that cannot be understood is left out: its key would be an unknown one."""
    keys: dict[str, ApiKey] = {}
    for document in documents:
        try:
            key = key_of(document, name="", source=Source.GENERATED)
        except BadRecord as problem:
            log.error("A generated key cannot be understood: %s", problem)  # noqa: TRY400  no trace
            continue
        keys[key.id] = key
    return keys
