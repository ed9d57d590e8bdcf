"""When a model that is being woken will answer: from how long it took before. Pure."""

# The official clients of OpenAI obey a Retry-After of at most one minute.
_LONGEST_RETRY_SECONDS = 60.0
_SHORTEST_RETRY_SECONDS = 1.0
# Of a new measurement against those before.
_NEWEST = 0.5


class Forecast:
    """`measured` are seconds from a wake-up to a ready pod, as seen here; None before the first."""

    def __init__(self) -> None:
        self.measured: float | None = None

    def note(self, seconds: float) -> None:
        before = seconds if self.measured is None else self.measured
        self.measured = _NEWEST * seconds + (1 - _NEWEST) * before

    def remaining(self, elapsed: float, reported: float | None) -> float | None:
        """None if nobody has ever seen this model start, or if it takes longer than ever.

        `reported` is what the operator has measured.
        """
        expected = self.measured if self.measured is not None else reported
        return expected - elapsed if expected is not None and expected > elapsed else None

    def retry_after(self, elapsed: float, reported: float | None) -> float:
        """Of what has lasted for some time nothing better is known than that it lasts as long."""
        remaining = self.remaining(elapsed, reported)
        wanted = elapsed if remaining is None else remaining
        return min(max(wanted, _SHORTEST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
