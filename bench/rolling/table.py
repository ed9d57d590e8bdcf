"""The simulated rollouts as the table of docs/statistics.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.rolling.chart import compared_traffic

type Row = Mapping[str, Any]

_RULES = ("ours", "flagger_rule", "argo_rollouts_rule")
_COLUMNS = (
    "requests a second, failing anyway",
    "healthy: rolled back",
    "10 times worse: rolled back",
    "3 times worse: rolled back",
)
_HEAD = (f"| {' | '.join(_COLUMNS)} |", "|---|---|---|---|")


def table(rows: Sequence[Row]) -> str:
    return "\n".join([*_HEAD, *_lines(rows)]) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    found = {row["scenario"]: row for row in rows}
    for name in compared_traffic(rows):
        if name.endswith("_incident"):
            kinds, what = (name,), f"{_words(name)}, incident of both"
        else:
            kinds, what = tuple(f"{name}_{kind}" for kind in ("healthy", "10x", "3x")), _words(name)
        cells = [_cell(found[kind]) for kind in kinds]
        yield f"| {' | '.join([what, *cells, *[''] * (3 - len(cells))])} |"


def _words(name: str) -> str:
    rate, errors = name.split("_")[:2]
    return f"{rate.removesuffix('rps')}, {errors.replace('%', ' %')}"


def _cell(row: Row) -> str:
    """Ours first."""
    first, *others = (_told(row, rule) for rule in _RULES)
    return " / ".join([f"**{first}**", *others])


def _told(row: Row, rule: str) -> str:
    minutes = row.get(f"minutes_until_rollback_{rule}")
    after = f" ({minutes:g} min)" if minutes is not None else ""
    return f"{row[f'rolled_back_percent_{rule}']:g} %{after}"
