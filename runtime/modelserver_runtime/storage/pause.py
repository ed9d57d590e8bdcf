"""When something that has failed is asked again: after a pause that doubles, and first by one."""

# A restarted Redis takes about a second; asking a dead one twice a minute costs nothing.
_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 30.0


class Pause:
    """Pure: every reading of the clock, in seconds, is an argument.

    While it is well all may ask. After a failure nobody may, until the pause is over; then one
    asks, and the others wait for what comes of it.
    """

    def __init__(self) -> None:
        self._failed_at = float("-inf")
        self._seconds = 0.0
        self._is_probing = False

    @property
    def is_well(self) -> bool:
        return not self._seconds

    def seconds_left(self, now: float) -> float:
        return max(0.0, self._failed_at + self._seconds - now)

    def may_ask(self, now: float) -> bool:
        """Who is told yes must call one of `succeeded`, `failed` and `abandoned`."""
        if self.is_well:
            return True
        if self._is_probing or self.seconds_left(now):
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        self._seconds = 0.0
        self._is_probing = False

    def failed(self, *, began: float, now: float) -> None:
        """Of many that fail together only the first makes the pause longer."""
        if began <= self._failed_at:
            return
        self._failed_at = now
        self._seconds = min(max(_FIRST_SECONDS, self._seconds * 2), _LONGEST_SECONDS)
        self._is_probing = False

    def abandoned(self) -> None:
        """Nobody waited for the answer, so another one has to ask."""
        self._is_probing = False
