"""Experiments as lines: each beside the stable revision."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from modelserver_cli.display.words import columns, duration
from modelserver_cli.reading.picture import ExperimentPicture, TrackPicture


def experiment_lines(experiments: Sequence[ExperimentPicture]) -> Iterator[Text]:
    if not experiments:
        return
    yield Text()
    yield Text("experiments", style="bold")
    rows = [row for one in experiments for row in _rows(one)]
    for line in columns(rows):
        yield Text(f"  {line}")
    for one in experiments:
        if one.message:
            yield Text(f"  {one.name}: {one.message}", style="yellow")


def _rows(one: ExperimentPicture) -> Iterator[tuple[str, ...]]:
    since = f"for {duration(one.counted_seconds)}" if one.counted_seconds is not None else ""
    ready = f"{one.ready}/{one.wanted} ready"
    yield one.name, one.phase, one.revision or "-", ready, since, *_numbers(one.answered)
    if one.counted_seconds is not None:
        yield "", "", "stable", "", "", *_numbers(one.stable)


def _numbers(track: TrackPicture) -> tuple[str, ...]:
    """Each in a column, so that the two are under each other."""
    failed = f"{track.errors_percent} % failed" if track.errors_percent else ""
    times = [("p50", track.p50_milliseconds), ("p90", track.p90_milliseconds)]
    shown = (f"{name} {value} ms" if value is not None else "" for name, value in times)
    return (f"{track.requests} requests", failed, *shown)
