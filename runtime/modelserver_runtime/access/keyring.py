"""All keys that are known, from the mounted Secret and from those that were generated."""

import asyncio
import hmac
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from modelserver_runtime.access.credentials import is_token, require_form
from modelserver_runtime.access.directory import KeyDirectory
from modelserver_runtime.access.principal import ApiKey
from modelserver_runtime.access.secret import digest_of
from modelserver_runtime.access.stores import KeyStore
from modelserver_runtime.errors import KeysUnavailable

# A revoked key works for this long at most on other replicas; the kubelet itself takes a minute
# to bring a changed Secret.
POLL_SECONDS = 2.0
# Digests are looked up by their beginning, and the rest is compared in constant time.
_INDEXED = 16


class TokenReader(Protocol):
    async def key_of(self, token: str) -> ApiKey:
        """Raises NotAuthenticated, KeysUnavailable."""


class Keyring:
    """`clock` is monotonic. Sources are looked at when a key is, at most every two seconds.

    `tokens` is None where no issuer of tokens is trusted.
    """

    def __init__(
        self,
        *,
        directory: KeyDirectory | None,
        generated: KeyStore,
        clock: Callable[[], float],
        tokens: TokenReader | None = None,
    ) -> None:
        self._directory = directory
        self.generated = generated
        self._clock = clock
        self._tokens = tokens
        self._next_look = float("-inf")
        self._are_all_known = False
        self._index: Mapping[str, tuple[ApiKey, ...]] = {}

    async def find(self, secret: str) -> ApiKey | None:
        """Raises NotAuthenticated for what is no key and no token that is accepted.

        Raises KeysUnavailable when the key might be one that cannot be looked up now.
        """
        if self._tokens is not None and is_token(secret):
            return await self._tokens.key_of(secret)
        require_form(secret)
        await self._look_if_due()
        if (key := self._match(secret)) is not None:
            return key
        # Another replica may have made it a moment ago.
        await self._look_at_generated()
        key = self._match(secret)
        if key is None and not self._are_all_known:
            raise KeysUnavailable(
                "This key cannot be checked now, because Redis does not answer; try again",
                retry_after_seconds=1,
            )
        return key

    async def all(self) -> list[ApiKey]:
        """Of the present, as far as it can be known."""
        self._next_look = float("-inf")
        await self._look_if_due()
        return list(self._keys())

    def problems(self) -> Mapping[str, str]:
        """What is not as its source says, by file or place."""
        found = dict(self._directory.state.problems) if self._directory else {}
        if self.generated.problem:
            found[self.generated.place] = self.generated.problem
        return found

    async def add(self, key: ApiKey) -> None:
        await self.generated.add(key)
        self._make_index()

    async def remove(self, key_id: str) -> bool:
        was_there = await self.generated.remove(key_id)
        self._make_index()
        return was_there

    async def _look_if_due(self) -> None:
        now = self._clock()
        if now < self._next_look:
            return
        # Others go on with what is known, while one looks.
        self._next_look = now + POLL_SECONDS
        if self._directory is not None:
            await asyncio.to_thread(self._directory.look)
        await self._look_at_generated()

    async def _look_at_generated(self) -> None:
        self._are_all_known = await self.generated.refresh() or self._are_all_known
        self._make_index()

    def _keys(self) -> Iterator[ApiKey]:
        """A generated key that is in the Secret too is the Secret's."""
        mounted = self._directory.state.keys.values() if self._directory else ()
        digests = {key.digest for key in mounted}
        yield from mounted
        yield from (key for key in self.generated.keys.values() if key.digest not in digests)

    def _make_index(self) -> None:
        index: defaultdict[str, tuple[ApiKey, ...]] = defaultdict(tuple)
        for key in self._keys():
            index[key.digest[:_INDEXED]] += (key,)
        self._index = dict(index)

    def _match(self, secret: str) -> ApiKey | None:
        digest = digest_of(secret)
        candidates = self._index.get(digest[:_INDEXED], ())
        return next((key for key in candidates if hmac.compare_digest(key.digest, digest)), None)
