"""Draws what became of simulated rollouts, as SVG: a row for each traffic, a dot for each rule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

type Row = Mapping[str, Any]

_RULES = (
    ("ours", "ModelServer", "#2563eb"),
    ("flagger_rule", "5 minutes above 1 % (Flagger's examples)", "#d97706"),
    ("argo_rollouts_rule", "1 minute above 1 % (Argo Rollouts' default)", "#dc2626"),
)
_PANELS = (
    ("healthy", "healthy: should be 0 %"),
    ("10x", "fails 10 times as often: should be 100 %"),
    ("3x", "fails 3 times as often: should be 100 %"),
)
_FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="13"'
_LEFT, _TOP, _ROW, _PANEL, _GAP = 170, 96, 34, 220, 40
_WIDTH = _LEFT + 3 * _PANEL + 2 * _GAP + 30


def chart(rows: Sequence[Row]) -> str:
    names = compared_traffic(rows)
    height = _TOP + _ROW * len(names) + 46
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
        "  <title>Simulated rollouts: how many were rolled back, by rule</title>",
        f'  <rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(),
        *_labels(names),
        *(line for panel in range(len(_PANELS)) for line in _panel(panel, names, rows)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def compared_traffic(rows: Sequence[Row]) -> list[str]:
    """`5rps_0.1%`: where all kinds of revisions met all rules, and the incidents below."""
    compared = [row["scenario"] for row in rows if f"rolled_back_percent_{_RULES[-1][0]}" in row]
    healthy = [name.removesuffix("_healthy") for name in compared if name.endswith("_healthy")]
    steady = [name for name in healthy if f"{name}_3x" in compared]
    return steady + [name for name in compared if name.endswith("_incident")]


def _legend() -> Iterator[str]:
    left = _LEFT
    for _, text, color in _RULES:
        yield f'  <circle cx="{left}" cy="24" r="6" fill="{color}"/>'
        yield f'  <text x="{left + 12}" y="28" fill="#334155">{text}</text>'
        left += 40 + 7 * len(text)


def _labels(names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        rate, errors, *incident = name.split("_")
        text = f"{rate.removesuffix('rps')}/s, {errors.replace('%', ' %')} fail"
        text = f"{rate.removesuffix('rps')}/s, incident of both" if incident else text
        yield (
            f'  <text x="{_LEFT - 16}" y="{_height(number) + 4}" text-anchor="end"'
            f' fill="#334155">{text}</text>'
        )


def _panel(panel: int, names: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    kind, title = _PANELS[panel]
    left = _LEFT + panel * (_PANEL + _GAP)
    bottom = _height(len(names)) - _ROW // 2
    yield f'  <text x="{left}" y="{_TOP - 26}" font-weight="bold" fill="#0f172a">{title}</text>'
    for percent in (0, 50, 100):
        x = left + percent * _PANEL // 100
        yield f'  <path d="M{x} {_TOP - 12}V{bottom}" stroke="#cbd5e1"/>'
        place = f'x="{x}" y="{bottom + 18}" text-anchor="middle"'
        yield f'  <text {place} fill="#64748b">{percent} %</text>'
    found = {row["scenario"]: row for row in rows}
    for number, name in enumerate(names):
        row = found.get(name if name.endswith("incident") else f"{name}_{kind}")
        if row and (kind == "healthy" or not name.endswith("incident")):
            yield from _dots(row, left, _height(number))


def _dots(row: Row, left: int, y: int) -> Iterator[str]:
    """A little apart in height, so that equal ones are seen; with minutes where it is a find."""
    for number, (rule, _, color) in enumerate(_RULES):
        percent = row[f"rolled_back_percent_{rule}"]
        x = left + percent * _PANEL / 100
        minutes = row.get(f"minutes_until_rollback_{rule}")
        after = f", after {minutes:g} min" if minutes else ""
        yield (
            f'  <circle cx="{x:.1f}" cy="{y + 8 * (number - 1)}" r="5" fill="{color}">'
            f"<title>{percent:g} %{after}</title></circle>"
        )


def _height(number: int) -> int:
    return _TOP + _ROW * number + _ROW // 2
