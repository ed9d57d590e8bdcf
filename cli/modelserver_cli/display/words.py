"""Times, bars and columns."""

from collections.abc import Iterable, Sequence

_BAR_CELLS = 20
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_FEW_SECONDS = 120
_FEW_MINUTES = 7_200
_FEW_HOURS = 172_800


def duration(seconds: float) -> str:
    """With two units at most, as people say it."""
    whole = max(round(seconds), 0)
    if whole < _FEW_SECONDS:
        return f"{whole} s"
    if whole < _FEW_MINUTES:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _FEW_HOURS:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} days"


def bar(percent: int, *, ascii_only: bool = False) -> str:
    """Anything above 0 is seen, and only all is full."""
    filled = round(percent * _BAR_CELLS / 100)
    if 0 < percent < 100:  # noqa: PLR2004  percent
        filled = min(max(filled, 1), _BAR_CELLS - 1)
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    return full * filled + empty * (_BAR_CELLS - filled)


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Left-aligned, two spaces between; nothing is cut, so that a pipe gets all of it."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
