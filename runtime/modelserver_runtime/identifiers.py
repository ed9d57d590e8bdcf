"""Random names for requests and answers, from a pool: asking the kernel for each costs 15 us."""

import os

_POOL_BYTES = 4096


class _Pool:
    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        if self._used + count > len(self._bytes):
            self._bytes, self._used = os.urandom(max(count, _POOL_BYTES)), 0
        self._used += count
        return self._bytes[self._used - count : self._used]

    def clear(self) -> None:
        self._bytes, self._used = b"", 0


_pool = _Pool()
# A forked process must not draw the same names.
os.register_at_fork(after_in_child=_pool.clear)


def random_hex(count: int) -> str:
    """Of so many random bytes, for names that are no secrets; on the event loop's thread only."""
    return _pool.take(count).hex()
