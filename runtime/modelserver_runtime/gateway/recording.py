"""A request and its answer as they pass, noted up to a bound of each and of all together."""

from modelserver_runtime.gateway.upstream import Head

TOO_LARGE = "tooLarge"
NO_MEMORY = "noMemory"


class Budget:
    """Memory that all recordings share."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes

    def take(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        self._left += size


class Recording:
    """`reason` says why it is given up; empty while it is whole."""

    def __init__(self, most_bytes: int, budget: Budget) -> None:
        self._most_bytes = most_bytes
        self._budget = budget
        self._request: list[bytes] = []
        self._answer: list[bytes] = []
        self._sizes = {"request": 0, "answer": 0}
        self.head: Head | None = None
        self.reason = ""

    @property
    def request(self) -> bytes:
        return b"".join(self._request)

    @property
    def answer(self) -> bytes:
        return b"".join(self._answer)

    def note_request(self, part: bytes) -> None:
        if self._has_room("request", len(part)):
            self._request.append(part)

    def note_answer(self, part: bytes) -> None:
        if self._has_room("answer", len(part)):
            self._answer.append(part)

    def give_up(self, reason: str) -> None:
        """What was noted is forgotten; the first reason counts."""
        self.reason = self.reason or reason
        self.forget()

    def forget(self) -> None:
        self._budget.give_back(sum(self._sizes.values()))
        self._sizes = dict.fromkeys(self._sizes, 0)
        self._request.clear()
        self._answer.clear()

    def _has_room(self, part: str, size: int) -> bool:
        if self.reason:
            return False
        if self._sizes[part] + size > self._most_bytes:
            self.give_up(TOO_LARGE)
            return False
        if not self._budget.take(size):
            self.give_up(NO_MEMORY)
            return False
        self._sizes[part] += size
        return True
