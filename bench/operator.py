"""`python -m bench.operator`: how fast the operator makes children, and what it costs at rest.

Two API servers, each with an etcd of its own, grow side by side to the greatest size, a hundred
ModelServers at a time and in turns, so that whatever else the machine does meets both alike:

  floor   a bare client creates the ModelServers and writes the very same children, 16 at a time,
          with bodies made beforehand: as fast as such an API server takes them
  ours    a bare client creates the ModelServers, 16 at a time; the operator, which works on 16 at a
          time, makes the children

Measured is, for each hundred, the time from the first request until every child exists; a figure
of a size is the sum up to it. Beside that: requests counted by the API server's audit log, memory,
ten changes of one server (the figure is the slowest), and a minute of rest at the end.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.reconciling.audit import mark, requests_since
from bench.reconciling.lab import CONCURRENCY, Lab, OperatorProcess, fresh_lab
from bench.reconciling.load import LOAD_NAMESPACE, BareClient, children_of, server_manifest
from bench.results_file import Result, Target, versions
from bench.serving.processes import quiet_moment

SLICE = 100
CHANGES = 10
SETTLE_SECONDS = 5.0

type Round = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rounds = [one for n in range(options.rounds) for one in asyncio.run(_round(n, options))]
    except KeyboardInterrupt:
        print("interrupted: everything is taken down, no result was written", file=sys.stderr)
        return 130
    result = _result(options, rounds)
    print(f"written: {result.write()}")
    for name, value in result.figures.items():
        print(f"  {name} = {value:g}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.operator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[100, 500, 1000], metavar="N", help="ModelServers")
    add("--rounds", type=int, default=2, help="each on fresh API servers (2)")
    add("--rest-seconds", type=float, default=60, help="how long rest is looked at (60)")
    add("--patience", type=float, default=120, help="longest wait for a quiet machine (120 s)")
    return parser


async def _round(number: int, options: argparse.Namespace) -> list[Round]:
    print(f"round {number + 1} of {options.rounds}", flush=True)
    quiet = await quiet_moment(patience_seconds=options.patience)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        labs = [
            stack.enter_context(fresh_lab(f"bench-{name}", folder)) for name in ("floor", "ours")
        ]
        for lab in labs:
            lab.make_namespace(LOAD_NAMESPACE)
        operator = stack.enter_context(labs[1].operator())
        async with BareClient(labs[0].cluster) as floor, BareClient(labs[1].cluster) as ours:
            race = Race(floor=floor, ours=ours, lab=labs[1], operator=operator)
            found = await race.run(sorted(options.sizes))
            found[-1] |= await _rest(labs[1], options.rest_seconds)
    about = {"round": number, "busy_cores_before": quiet.busy_cores}
    return [about | one for one in found]


@dataclass(slots=True)
class Race:
    floor: BareClient
    ours: BareClient
    lab: Lab
    operator: OperatorProcess
    floor_seconds: float = 0.0
    seconds: float = 0.0
    children: int = field(default_factory=lambda: len(children_of(server_manifest(0))))

    async def run(self, sizes: list[int]) -> list[Round]:
        place, found, before = mark(self.lab.cluster.audit_log), [], self.operator.cpu_seconds()
        for turn, numbers in enumerate(_slices(sizes)):
            await self._measure(numbers, floor_first=turn % 2 == 0)
            if numbers.stop in sizes:
                await asyncio.sleep(SETTLE_SECONDS)
                cpu = self.operator.cpu_seconds() - before
                found.append(await self._at(numbers.stop, place, cpu))
        return found

    async def _measure(self, numbers: range, *, floor_first: bool) -> None:
        steps = [self._floor, self._ours] if floor_first else [self._ours, self._floor]
        for step in steps:
            await step(numbers)
        ratio = self.seconds / self.floor_seconds
        print(
            f"  {numbers.stop} ModelServers: floor {self.floor_seconds:.1f} s, ours"
            f" {self.seconds:.1f} s, ratio {ratio:.2f}",
            flush=True,
        )

    async def _floor(self, numbers: range) -> None:
        self.floor_seconds += await self.floor.seconds_of_floor(numbers)

    async def _ours(self, numbers: range) -> None:
        expected = numbers.stop * self.children
        self.seconds += await self.ours.seconds_of_operator(numbers, expected)

    async def _at(self, size: int, place: int, cpu: float) -> Round:
        counted = requests_since(self.lab.cluster.audit_log, place)
        replicas = 3 + size  # differs from what an earlier size has set
        changes = [await self.ours.seconds_of_change(n, replicas % 900) for n in range(CHANGES)]
        return {
            "size": size,
            "floor_seconds": round(self.floor_seconds, 3),
            "seconds": round(self.seconds, 3),
            "ratio_to_floor": round(self.seconds / self.floor_seconds, 3),
            "writes_per_server": counted.writes / size,
            "requests_per_server": counted.all_but_lease / size,
            "operator_cpu_milliseconds_per_server": round(1000 * cpu / size, 2),
            "operator_rss_megabytes": round(self.operator.resident_megabytes(), 1),
            "one_change_seconds": round(max(changes), 4),
            "one_change_median_seconds": round(statistics.median(changes), 4),
        }


def _slices(sizes: list[int]) -> Iterator[range]:
    """At most SLICE at a time, and an end at each size."""
    ends = sorted({*sizes, *range(SLICE, max(sizes), SLICE)})
    for start, stop in zip([0, *ends], ends, strict=False):
        yield range(start, stop)


async def _rest(lab: Lab, seconds: float) -> Round:
    print(f"  at rest for {seconds:.0f} s ...", flush=True)
    await asyncio.sleep(SETTLE_SECONDS)
    place = mark(lab.cluster.audit_log)
    await asyncio.sleep(seconds)
    counted = requests_since(lab.cluster.audit_log, place)
    return {
        "writes_at_rest": counted.writes,
        "requests_at_rest": counted.all_but_lease,
        "lease_requests_at_rest": counted.lease,
    }


def _result(options: argparse.Namespace, rounds: list[Round]) -> Result:
    figures: dict[str, float] = {}
    for size in options.sizes:
        figures |= _figures(size, [one for one in rounds if one["size"] == size])
    figures |= _figures_of_rest(max(options.sizes), options.rest_seconds, rounds)
    return Result(
        bench="operator",
        command=" ".join(["python -m bench.operator", *sys.argv[1:]]),
        software={"kubernetes": "1.36.3", **versions(["kopf", "aiohttp", "uvloop"])},
        figures=figures,
        targets=_targets(figures),
        rounds=rounds,
        note=(
            "API servers, etcds, bare clients and operator share the cores of one machine. Times"
            " and ratios are the median of the rounds; writes, memory and changes the worst of"
            f" them. {CONCURRENCY} at a time on both sides."
        ),
    )


def _figures(size: int, rounds: list[Round]) -> dict[str, float]:
    def median(name: str) -> float:
        return round(float(statistics.median(one[name] for one in rounds)), 3)

    def worst(name: str) -> float:
        return float(max(one[name] for one in rounds))

    return {
        f"ratio_to_floor_{size}": median("ratio_to_floor"),
        f"seconds_until_children_{size}": median("seconds"),
        f"floor_seconds_{size}": median("floor_seconds"),
        f"writes_per_server_{size}": median("writes_per_server"),
        f"requests_per_server_{size}": median("requests_per_server"),
        f"operator_cpu_milliseconds_per_server_{size}": median(
            "operator_cpu_milliseconds_per_server"
        ),
        f"operator_rss_megabytes_{size}": worst("operator_rss_megabytes"),
        f"one_change_seconds_{size}": worst("one_change_seconds"),
    }


def _figures_of_rest(size: int, seconds: float, rounds: list[Round]) -> dict[str, float]:
    rested = [one for one in rounds if "writes_at_rest" in one]
    names = ("writes_at_rest", "requests_at_rest", "lease_requests_at_rest")
    return {
        f"{name}_{seconds:.0f}s_{size}": float(max(one[name] for one in rested)) for name in names
    }


def _targets(figures: dict[str, float]) -> dict[str, Target]:
    bounds: dict[str, tuple[str, Callable[[float], bool]]] = {
        "ratio_to_floor_1000": ("<= 2", lambda value: value <= 2),
        "writes_at_rest_60s_1000": ("0", lambda value: value == 0),
        "operator_rss_megabytes_1000": ("<= 250", lambda value: value <= 250),
        "one_change_seconds_1000": ("< 1", lambda value: value < 1),
    }
    return {
        name: Target(bound=bound, holds=holds(figures[name]))
        for name, (bound, holds) in bounds.items()
        if name in figures
    }


if __name__ == "__main__":
    sys.exit(main())
