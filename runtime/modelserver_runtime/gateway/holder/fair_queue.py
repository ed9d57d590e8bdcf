"""A queue in which everybody who asks has a line of his own; the lines take turns."""

from collections import deque
from collections.abc import Hashable, Iterator


class FairQueue[C: Hashable, T]:
    def __init__(self) -> None:
        self._lines: dict[C, deque[T]] = {}  # in the order of their turns

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[T]:
        for line in self._lines.values():
            yield from line

    def put(self, caller: C, item: T) -> None:
        self._lines.setdefault(caller, deque()).append(item)

    def take(self) -> T:
        """The first of the line whose turn it is. Raises IndexError if there is none."""
        if not self._lines:
            raise IndexError("nobody waits")
        caller, line = next(iter(self._lines.items()))
        item = line.popleft()
        del self._lines[caller]
        if line:
            self._lines[caller] = line
        return item

    def remove(self, caller: C, item: T) -> None:
        """Who leaves, if he still stands in the line."""
        line = self._lines.get(caller)
        if line is not None and item in line:
            line.remove(item)
            if not line:
                del self._lines[caller]
