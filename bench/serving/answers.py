"""What is asked of an engine, and what one request gave: which tokens, and when they came."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`limit_seconds`: what is not answered by then has failed."""

    concurrency: int
    output_tokens: int
    limit_seconds: float

    @property
    def too_late(self) -> str:
        return f"not answered within {self.limit_seconds:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Times are seconds since the request was sent; `failure` says why it does not count.

    `arrivals`: when each piece of text came, which may be more than one token.
    """

    message: str
    token_ids: tuple[int, ...] = ()
    first_token_seconds: float = 0.0
    total_seconds: float = 0.0
    arrivals: tuple[float, ...] = ()
    failure: str = ""

    @property
    def seconds_per_token(self) -> float:
        """After the first one."""
        following = len(self.token_ids) - 1
        return (self.total_seconds - self.first_token_seconds) / following if following else 0.0


def succeeded(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if not answer.failure]
