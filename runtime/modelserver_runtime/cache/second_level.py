"""The second level: answers that replicas share through Redis, behind each one's own memory.

Every model has an *epoch* there, a random value. Each answer carries the epoch in which its
computation began, and is a miss in every other one: that makes invalidating a model one write. A
lost epoch is replaced by a new one, so answers that were invalidated never come back.

Whatever is not exactly what this version has written for that key is a miss: cut off or changed
values, values of others, values of other versions.
"""

import hashlib
import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelserver_runtime.cache.key import Key
from modelserver_runtime.engine.worker import Clock

# Changes with the form of what is stored.
_VERSION = b"MSRC1"
_EPOCH_BYTES = 16
_DIGEST_BYTES = 16
# Version, epoch, seconds since 1970, digest of all that with the key and the content.
_HEAD = struct.Struct(f">{len(_VERSION)}s{_EPOCH_BYTES}sd{_DIGEST_BYTES}s")
# Larger answers are quicker computed than moved, and Redis answers others meanwhile: it has one
# thread.
MOST_BYTES = 4 << 20


class SharedStore(Protocol):
    """See `storage.RedisStore`: None means that it cannot be reached, and is no exception."""

    async def get_many(self, keys: Sequence[str]) -> Sequence[bytes | None] | None: ...

    async def put(self, key: str, value: bytes, ttl_seconds: float | None = None) -> bool | None:
        """True once it is stored."""
        ...

    async def put_if_absent(self, key: str, value: bytes) -> bool | None:
        """Whether it was absent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """`epoch` is None when the store cannot be reached; `found` has contents with their ages."""

    epoch: bytes | None = None
    found: Mapping[Key, tuple[bytes, float]] = field(default_factory=dict)


class SecondLevel:
    """`wall_clock` gives seconds since 1970: the age of an answer counts across processes."""

    def __init__(self, store: SharedStore, *, ttl_seconds: float, wall_clock: Clock) -> None:
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._wall_clock = wall_clock

    async def recall(self, model: str, keys: Sequence[Key]) -> Recalled:
        """One round trip, unless the model has no epoch yet."""
        names = [_epoch_name(model), *(_answer_name(key) for key in keys)]
        values = await self._store.get_many(names)
        if values is None:
            return Recalled()
        epoch, *contents = values
        if epoch is None or len(epoch) != _EPOCH_BYTES:
            return Recalled(epoch=await self._begin_epoch(model))
        found = {
            key: opened
            for key, value in zip(keys, contents, strict=True)
            if value is not None and (opened := self._open(key, epoch, value)) is not None
        }
        return Recalled(epoch=epoch, found=found)

    async def write(self, key: Key, epoch: bytes, content: bytes) -> bool:
        """Whether it was stored."""
        if len(content) > MOST_BYTES:
            return False
        value = _seal(key, epoch, self._wall_clock(), content)
        return bool(await self._store.put(_answer_name(key), value, self._ttl_seconds))

    async def renew(self, model: str) -> bytes | None:
        """Makes every answer of the model a miss, for all replicas; None if it did not succeed."""
        epoch = secrets.token_bytes(_EPOCH_BYTES)
        return epoch if await self._store.put(_epoch_name(model), epoch) else None

    async def epochs(self, models: Sequence[str]) -> Mapping[str, bytes]:
        """Of those models that have one; empty also when the store cannot be reached."""
        values = await self._store.get_many([_epoch_name(model) for model in models])
        if values is None:
            return {}
        return {m: value for m, value in zip(models, values, strict=True) if value is not None}

    async def _begin_epoch(self, model: str) -> bytes | None:
        """Of several that begin one at a time, one wins."""
        epoch = secrets.token_bytes(_EPOCH_BYTES)
        if await self._store.put_if_absent(_epoch_name(model), epoch):
            return epoch
        return (await self.epochs([model])).get(model)

    def _open(self, key: Key, epoch: bytes, value: bytes) -> tuple[bytes, float] | None:
        """The content and its age in seconds."""
        if len(value) < _HEAD.size:
            return None
        version, written_in, stored_at, digest = _HEAD.unpack_from(value)
        content = value[_HEAD.size :]
        if version != _VERSION or written_in != epoch:
            return None
        if digest != _digest(key, written_in, stored_at, content):
            return None
        age = max(0.0, self._wall_clock() - stored_at)
        return (content, age) if age < self._ttl_seconds else None


def _seal(key: Key, epoch: bytes, stored_at: float, content: bytes) -> bytes:
    digest = _digest(key, epoch, stored_at, content)
    return _HEAD.pack(_VERSION, epoch, stored_at, digest) + content


def _digest(key: Key, epoch: bytes, stored_at: float, content: bytes) -> bytes:
    head = struct.pack(">d", stored_at) + epoch + key
    return hashlib.blake2b(head + content, digest_size=_DIGEST_BYTES).digest()


def _answer_name(key: Key) -> str:
    return f"cache:answer:{key.hex()}"


def _epoch_name(model: str) -> str:
    return f"cache:epoch:{model}"
