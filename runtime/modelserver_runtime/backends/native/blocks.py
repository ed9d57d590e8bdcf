"""Which blocks of keys and values belong to whom; pure: numbers of blocks, no memory.

A block holds the keys and values of 64 tokens that follow each other. A full block is known by all
tokens up to its end, so that another sequence that begins with the same ones takes it over instead
of computing it. Blocks that nobody uses any more stay known until their place is needed, the
longest unused first.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence

import numpy as np

# As in decoder.c. The larger, the fewer lookups; the smaller, the less of a prefix is lost.
BLOCK_TOKENS = 64

type Key = bytes


class OutOfBlocks(MemoryError):
    """Every block is in use."""


class PrefixKeys(list[Key]):
    """Of each full block of a sequence: a hash of everything up to its end.

    Equal sequences have equal keys only under the same salt.
    """

    def __init__(self, salt: str) -> None:
        super().__init__()
        self._root = hashlib.blake2b(salt.encode(), digest_size=16).digest()

    def cover(self, token_ids: Sequence[int]) -> None:
        """Adds those of blocks that have become full; `token_ids` only grows at its end."""
        for begin in range(
            len(self) * BLOCK_TOKENS, len(token_ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS
        ):
            tokens = np.asarray(token_ids[begin : begin + BLOCK_TOKENS], dtype=np.int32)
            before = self[-1] if self else self._root
            self.append(hashlib.blake2b(before + tokens.tobytes(), digest_size=16).digest())


def keys_of(salt: str, token_ids: Sequence[int]) -> PrefixKeys:
    keys = PrefixKeys(salt)
    keys.cover(token_ids)
    return keys


class BlockPool:
    """`most_unused` is how many blocks may be kept for prefixes that nobody uses at the moment."""

    def __init__(self, blocks: int, *, most_unused: int) -> None:
        self._most_unused = most_unused
        self._free = list(range(blocks - 1, -1, -1))
        self._users: Counter[int] = Counter()
        self._known: dict[Key, int] = {}
        self._key: dict[int, Key] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        return len(self._free) + len(self._unused)

    def take(self) -> int:
        """An empty block for one user; raises OutOfBlocks."""
        if self._free:
            block = self._free.pop()
        elif self._unused:
            block = self._forget_oldest()
        else:
            raise OutOfBlocks("every block of keys and values is in use")
        self._users[block] = 1
        return block

    def find(self, keys: Sequence[Key]) -> list[int]:
        """The blocks of the longest known prefix, each with one user more."""
        found = []
        for key in keys:
            block = self._known.get(key)
            if block is None:
                break
            self._unused.pop(block, None)
            self._users[block] += 1
            found.append(block)
        return found

    def publish(self, block: int, key: Key) -> None:
        """The block is full; from now on others may find it. The first of two equal ones wins."""
        if key not in self._known and block not in self._key:
            self._known[key] = block
            self._key[block] = key

    def release(self, block: int) -> None:
        """One user less."""
        self._users[block] -= 1
        if self._users[block]:
            return
        del self._users[block]
        if block not in self._key:
            self._free.append(block)
            return
        self._unused[block] = None
        if len(self._unused) > self._most_unused:
            self._free.append(self._forget_oldest())

    def _forget_oldest(self) -> int:
        block, _ = self._unused.popitem(last=False)
        del self._known[self._key.pop(block)]
        return block
