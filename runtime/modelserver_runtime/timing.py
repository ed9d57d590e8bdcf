"""What is noted about one request on its way: when each part of the work began and ended."""

from collections.abc import Iterator
from contextvars import ContextVar


class RequestTiming:
    """Readings of the monotonic clock in seconds; 0 for what has not happened.

    Whoever does the work writes them, the model's thread too. Of a request with several sequences
    the first admission and the first token count, and the last token.

        arrived ─ tokenize ─ queued ─ queue ─ admitted ─ prefill ─ first_token ─ decode ─ last_token
    """

    __slots__ = (
        *("request_id", "arrived", "tokenizing", "tokenized", "queued", "admitted"),
        *("first_token", "last_token", "cache", "model", "task", "caller"),
        *("prompt_tokens", "generated_tokens"),
    )

    def __init__(self, request_id: str = "", arrived: float = 0.0) -> None:
        self.request_id = request_id
        self.arrived = arrived
        self.tokenizing = self.tokenized = self.queued = self.admitted = 0.0
        self.first_token = self.last_token = 0.0
        self.cache = ""  # hit, miss or coalesced, where a cache was asked
        self.model = ""  # the model's name in the API
        self.task = ""
        self.caller = ""  # the id of the key, never the key
        self.prompt_tokens = self.generated_tokens = 0

    def note_queued(self, now: float) -> None:
        self.queued = self.queued or now

    def note_admitted(self, now: float) -> None:
        self.admitted = self.admitted or now

    def note_token(self, now: float) -> None:
        self.first_token = self.first_token or now
        self.last_token = now
        self.generated_tokens += 1

    def note_computed(self, now: float) -> None:
        """Of an answer that comes as a whole."""
        self.first_token = self.last_token = now

    def parts(self) -> Iterator[tuple[str, float, float]]:
        """Name, begin and end of each part of the work that is done."""
        spans = (
            ("tokenize", self.tokenizing, self.tokenized),
            ("queue", self.queued, self.admitted),
            ("prefill", self.admitted, self.first_token),
            ("decode", self.first_token, self.last_token),
        )
        return (span for span in spans if span[1] and span[2] > span[1])


# The request that is being answered by the present task of the event loop.
current_request: ContextVar[RequestTiming | None] = ContextVar("current_request", default=None)
