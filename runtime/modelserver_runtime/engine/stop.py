"""Finds stop strings in text that arrives in pieces, and holds back what may become one."""

from collections.abc import Sequence


class StopMatcher:
    """Text goes in piece by piece; what can no longer be part of a stop string comes out."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(string for string in strings if string)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that is certain, and whether a stop string was found right after it."""
        if not self._strings:
            return text, False
        self._held += text
        found = [index for string in self._strings if (index := self._held.find(string)) >= 0]
        if found:
            released, self._held = self._held[: min(found)], ""
            return released, True
        keep = self._longest_beginning()
        cut = len(self._held) - keep
        released, self._held = self._held[:cut], self._held[cut:]
        return released, False

    def flush(self) -> str:
        """What was held back, when nothing comes any more."""
        released, self._held = self._held, ""
        return released

    def _longest_beginning(self) -> int:
        """Length of the longest end of the held text with which some stop string begins."""
        longest = min(len(self._held), max(len(string) for string in self._strings) - 1)
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0
