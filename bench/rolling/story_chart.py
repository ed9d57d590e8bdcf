"""Draws a rollout that was played, as SVG: its phases, its share of the traffic, its evidence."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

type Story = Mapping[str, Any]

_FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="13"'
_TITLE = ' font-weight="bold" font-size="15"'
_STABLE, _CANARY, _BAD, _LINE = "#2563eb", "#16a34a", "#dc2626", "#0f172a"
_WORDS, _FAINT = "#334155", "#cbd5e1"
_WIDTH, _LEFT, _RIGHT = 900, 76, 24
_PHASES_TOP, _PHASES_HEIGHT = 62, 26
_TOPS, _HEIGHT = (130, 316, 502), 130
_BOTTOM = _TOPS[-1] + _HEIGHT + 62
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300)  # seconds between the marks of the time axis
_MOST_MARKS = 14
_LETTER_WIDTH = 7
_PHASE_COLOURS = {
    "Preparing": "#e2e8f0",
    "Stepping": "#bfdbfe",
    "Analyzing": "#bbf7d0",
    "Promoting": "#a7f3d0",
    "Baking": "#fde68a",
    "Settling": "#e2e8f0",
    "Succeeded": "#86efac",
    "RollingBack": "#fecaca",
    "RolledBack": "#fca5a5",
}


class Frame:
    """Where a time and a value are on the picture."""

    def __init__(self, seconds: float, top: int, lowest: float, highest: float) -> None:
        self.seconds = seconds
        self.top = top
        self._lowest, self._highest = lowest, highest

    def x(self, at: float) -> float:
        inside = min(max(at, 0.0), self.seconds) / self.seconds
        return round(_LEFT + inside * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        inside = (min(max(value, self._lowest), self._highest) - self._lowest) / (
            self._highest - self._lowest
        )
        return round(self.top + (1 - inside) * _HEIGHT, 1)


def chart(story: Story, title: str) -> str:
    """But for the last bucket, which was not over when the play was."""
    story = {**story, "traffic": story["traffic"][:-1]}
    seconds = story["traffic"][-1]["at"] + story["bucket_seconds"]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_BOTTOM}" {_FONT}>',
        f"  <title>{title}</title>",
        f'  <rect width="{_WIDTH}" height="{_BOTTOM}" fill="#ffffff"/>',
        _text(_LEFT, 28, title, colour=_LINE, style=_TITLE),
        *_phases(story, seconds),
        *_shares(story, Frame(seconds, _TOPS[0], 0, 100)),
        *_requests(story, Frame(seconds, _TOPS[1], 0, _most_requests(story))),
        *_evidence(story, _evidence_frame(story, seconds)),
        *_time_axis(Frame(seconds, _TOPS[2], 0, 1)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


# -- phases --------------------------------------------------------------------------------------


def _phases(story: Story, seconds: float) -> Iterator[str]:
    frame = Frame(seconds, _PHASES_TOP, 0, 1)
    phases = [*story["phases"], [seconds, ""]]
    for (since, phase), (until, _) in pairwise(phases):
        left, right = frame.x(since), frame.x(until)
        colour = _PHASE_COLOURS.get(phase, _FAINT)
        yield (
            f'  <rect x="{left}" y="{_PHASES_TOP}" width="{max(right - left, 1):.1f}"'
            f' height="{_PHASES_HEIGHT}" fill="{colour}"><title>{phase}, from {since} s'
            f" to {until} s</title></rect>"
        )
        if right - left > _LETTER_WIDTH * len(phase):
            yield _text((left + right) / 2, _PHASES_TOP + 18, phase, anchor="middle")


# -- shares --------------------------------------------------------------------------------------


def _shares(story: Story, frame: Frame) -> Iterator[str]:
    yield from _panel(frame, "share of the new revision: told to the router, and seen by clients")
    for percent in (0, 50, 100):
        yield from _mark(frame, percent, f"{percent} %")
    yield _steps(frame, story["weights"], _LINE)
    for bucket in story["traffic"]:
        if not bucket["divided"]:
            continue
        share = 100 * bucket["divided_to_canary"] / bucket["divided"]
        middle = frame.x(bucket["at"] + story["bucket_seconds"] / 2)
        said = f"{bucket['divided_to_canary']} of {bucket['divided']}"
        yield (
            f'  <circle cx="{middle}" cy="{frame.y(share)}" r="4" fill="{_CANARY}">'
            f"<title>{said}</title></circle>"
        )


def _steps(frame: Frame, told: Sequence[Sequence[float]], colour: str) -> str:
    """A line that stays at each value until the next is told."""
    path = "".join(
        f"{'H' if number else 'M'}{frame.x(at)}{'V' if number else ' '}{frame.y(value)}"
        for number, (at, value) in enumerate(told)
    )
    path += f"H{frame.x(frame.seconds)}"
    return f'  <path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


# -- requests ------------------------------------------------------------------------------------


def _most_requests(story: Story) -> float:
    most = max(bucket["requests"] for bucket in story["traffic"]) / story["bucket_seconds"]
    return max(10.0, 10.0 * -(-most // 10))


def _requests(story: Story, frame: Frame) -> Iterator[str]:
    words = "requests a second: of stable (blue), of the new revision (green), failed (red)"
    yield from _panel(frame, words)
    for bucket in story["traffic"]:
        of_canary = bucket["of_canary"] - bucket["failed"]
        parts = (
            (bucket["requests"] - bucket["of_canary"], _STABLE),
            (max(of_canary, 0), _CANARY),
            (bucket["failed"], _BAD),
        )
        yield from _bar(frame, bucket["at"], story["bucket_seconds"], parts)
    most = _most_requests(story)
    for value in (0, most / 2, most):
        yield from _mark(frame, value, f"{value:g}")


def _bar(frame: Frame, at: float, width: float, parts: Sequence[tuple[int, str]]) -> Iterator[str]:
    left, right = frame.x(at) + 0.5, frame.x(at + width) - 0.5
    below = 0.0
    for requests, colour in parts:
        if requests:
            above = below + requests / width
            top, bottom = frame.y(above), frame.y(below)
            yield (
                f'  <rect x="{left:.1f}" y="{top}" width="{max(right - left, 0.5):.1f}"'
                f' height="{bottom - top:.1f}" fill="{colour}"/>'
            )
            below = above


# -- evidence ------------------------------------------------------------------------------------


def _evidence_frame(story: Story, seconds: float) -> Frame:
    """From a hundredth to beyond what rejects."""
    values = [value for _, value in story["evidence"]]
    return Frame(seconds, _TOPS[2], -2, max(story["evidence_needed"] + 1, *values, 1))


def _evidence(story: Story, frame: Frame) -> Iterator[str]:
    yield from _panel(frame, f"evidence E that it is worse, by {story['gate']}")
    needed = story["evidence_needed"]
    for value in (-2, 0, 2):
        yield from _mark(frame, value, f"{10.0**value:g}")
    height = frame.y(needed)
    yield (
        f'  <path d="M{_LEFT} {height}H{_WIDTH - _RIGHT}" stroke="{_BAD}" stroke-dasharray="6 4"/>'
    )
    said = f"rolled back from {10**needed:,.0f} on"
    yield _text(_LEFT + 8, height - 6, said, colour=_BAD)
    if story["evidence"]:
        yield _steps(frame, story["evidence"], _LINE)


# -- parts of all panels -------------------------------------------------------------------------


def _panel(frame: Frame, words: str) -> Iterator[str]:
    yield _text(_LEFT, frame.top - 12, words, colour=_LINE)
    yield f'  <path d="M{_LEFT} {frame.top}V{frame.top + _HEIGHT}" stroke="{_FAINT}"/>'


def _mark(frame: Frame, value: float, words: str) -> Iterator[str]:
    height = frame.y(value)
    yield f'  <path d="M{_LEFT} {height}H{_WIDTH - _RIGHT}" stroke="{_FAINT}"/>'
    yield _text(_LEFT - 8, height + 4, words, anchor="end")


def _time_axis(frame: Frame) -> Iterator[str]:
    tick = next((one for one in _TICKS if frame.seconds / one <= _MOST_MARKS), _TICKS[-1])
    for number in range(int(frame.seconds // tick) + 1):
        at = number * tick
        yield _text(frame.x(at), frame.top + _HEIGHT + 24, f"{at} s", anchor="middle")
    words = "since the spec was changed"
    yield _text(_WIDTH - _RIGHT, frame.top + _HEIGHT + 46, words, anchor="end")


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", colour: str = _WORDS, style: str = ""
) -> str:
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'  <text {place}{style} fill="{colour}">{words}</text>'
