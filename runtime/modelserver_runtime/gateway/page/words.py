"""Numbers and times as people read them. Pure."""

import re
from datetime import datetime

NOTHING = "\N{EN DASH}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
# Up to here the smaller unit is still worth reading.
_FEW = 2
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def seconds_since(written: str, now: float) -> float | None:
    """`written` is ISO 8601, `now` a Unix time; None of what is no time."""
    try:
        return max(now - datetime.fromisoformat(written).timestamp(), 0.0)
    except ValueError:
        return None


def ago(written: str, now: float) -> str:
    passed = lasting(written, now)
    return f"{passed} ago" if passed else ""


def lasting(written: str, now: float) -> str:
    seconds = seconds_since(written, now)
    return "" if seconds is None else duration(seconds)


def duration(seconds: float) -> str:
    """In one unit, rounded down, so that it does not change with every look."""
    whole = int(max(seconds, 0))
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if whole >= _FEW * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def latency(seconds: float | None) -> str:
    """With two digits that mean something."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{_two_digits(seconds * 1000)} ms"
    return f"{_two_digits(seconds)} s"


def rate(per_second: float) -> str:
    if per_second == 0:
        return "0"
    return "<0.1" if per_second < 0.1 else _two_digits(per_second)  # noqa: PLR2004  as written


def share(part: int, whole: int) -> str:
    """In percent; of nothing there is none."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    return "0 %" if not part else f"{'<0.1' if percent < 0.1 else _two_digits(percent)} %"  # noqa: PLR2004  as written


def counted(number: int, name: str) -> str:
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"


def spaced(name: str) -> str:
    """`RollingBack` and `timeToFirstToken` as words, the first one with a capital."""
    return sentence(_CAMEL.sub(" ", name).lower())


def sentence(text: str) -> str:
    """Log lines and messages begin in lower case."""
    return text[:1].upper() + text[1:]


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"  # noqa: PLR2004  rounds to 10
