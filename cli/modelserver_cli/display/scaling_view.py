"""Scaling as lines."""

from collections.abc import Iterator

from rich.text import Text

from modelserver_cli.display.words import columns, duration
from modelserver_cli.reading.scaling import ScalingPicture


def scaling_lines(scaling: ScalingPicture | None) -> Iterator[Text]:
    if scaling is None:
        return
    yield Text()
    yield Text("scaling", style="bold")
    pods = f"{scaling.desired} pod{'' if scaling.desired == 1 else 's'}"
    yield Text(f"  {scaling.engine}: {pods}, of {scaling.least} to {scaling.most}")
    if scaling.phase:
        since = duration(scaling.phase_seconds)
        yield Text(f"  {scaling.phase.lower()} for {since}{_start(scaling)}")
    if scaling.problem:
        yield Text(f"  {scaling.problem}", style="yellow")
    rows = [
        (f"{duration(one.seconds_ago)} ago", f"{one.before} to {one.after}", one.reason)
        for one in scaling.changes
    ]
    for line in columns(rows):
        yield Text(f"  {line}")


def _start(scaling: ScalingPicture) -> str:
    seconds = scaling.cold_start_seconds
    return "" if seconds is None else f"; a start takes about {duration(seconds)}"
