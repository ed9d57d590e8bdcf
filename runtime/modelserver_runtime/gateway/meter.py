"""Times of one answer: its first token, the gaps between tokens, and its end."""

from collections.abc import Callable

from modelserver_runtime.gateway.counts import Counts

# Server-sent events end with an empty line.
_ENDS = (b"\n\n", b"\r\n\r\n")
# Events without a token: the end, and pieces that only say a role, a reason or the usage.
_EMPTY = (b"data: [DONE]", b'"content":""', b'"delta":{}', b'"choices":[]')


def tokens_in(chunk: bytes) -> int:
    """The events of a stream that bring something, counted where they end."""
    ends = sum(chunk.count(end) for end in _ENDS)
    if not ends:
        return 0
    return max(0, ends - sum(chunk.count(mark) for mark in _EMPTY) - chunk.startswith(b":"))


class Meter:
    def __init__(
        self, counts: Counts, clock: Callable[[], float], began: float, *, is_stream: bool
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._began = began
        self._is_stream = is_stream
        self._last_token: float | None = None

    def pass_by(self, chunk: bytes) -> None:
        tokens = tokens_in(chunk) if self._is_stream else 0
        if not tokens:
            return
        now = self._clock()
        if self._last_token is None:
            self._counts.first_token.observe(now - self._began)
        else:
            self._counts.token_gaps.observe(now - self._last_token)
        for _ in range(tokens - 1):  # those that came together
            self._counts.token_gaps.observe(0.0)
        self._last_token = now

    def finish(self) -> None:
        self._counts.latency.observe(self._clock() - self._began)
