"""What a client is told of its limits, in headers of every answer."""

import math
from collections.abc import Iterator

from modelserver_runtime.access.limits.charge import WINDOW_SECONDS, Decision, Unit, Verdict


def limit_headers(decision: Decision) -> Iterator[tuple[bytes, bytes]]:
    """OpenAI's headers for both units, and the standard's for requests or else for tokens."""
    verdicts = [decision.tightest(unit) for unit in (Unit.REQUESTS, Unit.TOKENS)]
    known = [verdict for verdict in verdicts if verdict is not None]
    for verdict in known:
        yield from _of_unit(verdict)
    if known:
        yield from _of_standard(known[0])


def _of_unit(verdict: Verdict) -> Iterator[tuple[bytes, bytes]]:
    unit = verdict.unit.value.encode()
    yield b"x-ratelimit-limit-" + unit, str(verdict.limit).encode()
    yield b"x-ratelimit-remaining-" + unit, str(verdict.remaining).encode()
    yield b"x-ratelimit-reset-" + unit, duration(verdict.reset_seconds).encode()


def _of_standard(verdict: Verdict) -> Iterator[tuple[bytes, bytes]]:
    yield b"ratelimit-policy", f"{verdict.limit};w={WINDOW_SECONDS}".encode()
    yield b"ratelimit-limit", str(verdict.limit).encode()
    yield b"ratelimit-remaining", str(verdict.remaining).encode()
    yield b"ratelimit-reset", str(math.ceil(verdict.reset_seconds)).encode()


def duration(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 8.64s, 6m0s."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:  # noqa: PLR2004  a second
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds / 1000, 60)
    text = f"{rest:.2f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{text}s" if minutes else f"{text}s"
