"""`python -m bench.operator`: how fast the operator makes children, and what it costs at rest.

For each size, in rounds, on a fresh kube-apiserver and etcd each time and in alternating order:

  floor   a bare client creates N ModelServers and writes the very same children, 16 at a time, with
          bodies made beforehand: as fast as this API server takes them
  ours    a bare client creates the N ModelServers, 16 at a time; the operator, which runs already
          and works on 16 at a time, makes the children

Measured is the time from the first request until every child exists. Afterwards, beside the
operator: a minute of rest (requests are counted by the API server's audit log), memory, and ten
changes of one server (the figure is the slowest).
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.reconciling.audit import mark, requests_since
from bench.reconciling.lab import CONCURRENCY, Lab, fresh_lab
from bench.reconciling.load import LOAD_NAMESPACE, BareClient, children_of, server_manifest
from bench.results_file import Result, Target, versions
from bench.serving.processes import quiet_moment

CHANGES = 10
SETTLE_SECONDS = 5.0

type Round = dict[str, Any]


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rounds = asyncio.run(_run(options))
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
    add("--rounds", type=int, default=2, help="of floor and ours, at each size (2)")
    add("--rest-seconds", type=float, default=60, help="how long rest is looked at (60)")
    add("--patience", type=float, default=120, help="longest wait for a quiet machine (120 s)")
    return parser


async def _run(options: argparse.Namespace) -> list[Round]:
    rounds = []
    for size in options.sizes:
        for number in range(options.rounds):
            order = (_floor, _ours) if number % 2 == 0 else (_ours, _floor)
            found: Round = {"size": size, "round": number}
            for measure in order:
                quiet = await quiet_moment(patience_seconds=options.patience)
                with tempfile.TemporaryDirectory() as folder:
                    found |= await measure(size, options, Path(folder))
                found[f"busy_cores_before_{measure.__name__[1:]}"] = quiet.busy_cores
            found["ratio_to_floor"] = round(found["seconds"] / found["floor_seconds"], 3)
            print(f"  {size} ModelServers, round {number + 1}: {found}", flush=True)
            rounds.append(found)
    return rounds


async def _floor(size: int, _options: argparse.Namespace, folder: Path) -> Round:
    print(f"{size} ModelServers: the floor ...", flush=True)
    with fresh_lab("bench-floor", folder) as lab:
        lab.make_namespace(LOAD_NAMESPACE)
        async with BareClient(lab.cluster) as client:
            seconds = await client.seconds_of_floor(size)
    return {"floor_seconds": round(seconds, 3)}


async def _ours(size: int, options: argparse.Namespace, folder: Path) -> Round:
    print(f"{size} ModelServers: the operator ...", flush=True)
    with fresh_lab("bench-ours", folder) as lab:
        lab.make_namespace(LOAD_NAMESPACE)
        with lab.operator() as operator:
            async with BareClient(lab.cluster) as client:
                made = await _make(client, size, lab)
                cpu = operator.cpu_seconds()
                rest = await _rest(lab, options.rest_seconds)
                memory = operator.resident_megabytes()
                changes = [await client.seconds_of_change(n, 3) for n in range(CHANGES)]
    return {
        "seconds": round(made.seconds, 3),
        "writes_per_server": made.writes / size,
        "requests_per_server": made.requests / size,
        "operator_cpu_seconds": round(cpu, 2),
        **rest,
        "operator_rss_megabytes": round(memory, 1),
        "one_change_seconds": round(max(changes), 4),
        "one_change_median_seconds": round(statistics.median(changes), 4),
    }


@dataclass(frozen=True, slots=True)
class Made:
    seconds: float
    writes: int
    requests: int


async def _make(client: BareClient, size: int, lab: Lab) -> Made:
    place = mark(lab.cluster.audit_log)
    expected = size * len(children_of(server_manifest(0)))
    begun = time.perf_counter()
    creating = asyncio.create_task(client.create_servers(size))
    progress = Progress(expected)
    await client.wait_for_children(expected, progress)
    seconds = time.perf_counter() - begun
    await creating
    progress.end()
    await asyncio.sleep(SETTLE_SECONDS)
    counted = requests_since(lab.cluster.audit_log, place)
    return Made(seconds, counted.writes, counted.all_but_lease)


async def _rest(lab: Lab, seconds: float) -> Round:
    print(f"  at rest for {seconds:.0f} s ...", flush=True)
    place = mark(lab.cluster.audit_log)
    await asyncio.sleep(seconds)
    counted = requests_since(lab.cluster.audit_log, place)
    return {
        "writes_at_rest": counted.writes,
        "requests_at_rest": counted.all_but_lease,
        "lease_requests_at_rest": counted.lease,
    }


class Progress:
    """A line for every tenth, or one line that moves where somebody looks."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._told = 0

    def __call__(self, found: int) -> None:
        tenth = found * 10 // self._expected
        if sys.stdout.isatty():
            print(f"\r  {found} of {self._expected} children", end="", flush=True)
        elif tenth > self._told:
            print(f"  {found} of {self._expected} children", flush=True)
        self._told = tenth

    def end(self) -> None:
        if sys.stdout.isatty():
            print()


def _result(options: argparse.Namespace, rounds: list[Round]) -> Result:
    figures: dict[str, float] = {}
    for size in options.sizes:
        figures |= _figures(size, [one for one in rounds if one["size"] == size], options)
    return Result(
        bench="operator",
        command=" ".join(["python -m bench.operator", *sys.argv[1:]]),
        software={"kubernetes": "1.36.3", **versions(["kopf", "aiohttp", "uvloop"])},
        figures=figures,
        targets=_targets(figures),
        rounds=rounds,
        note=(
            "API server, etcd, bare client and operator share the cores of one machine. A ratio is"
            " that of one round's two measurements; the figure is the median of the rounds, for"
            f" writes, memory and one change the worst of them. {CONCURRENCY} at a time on both"
            " sides."
        ),
    )


def _figures(size: int, rounds: list[Round], options: argparse.Namespace) -> dict[str, float]:
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
        f"operator_cpu_seconds_{size}": median("operator_cpu_seconds"),
        f"writes_at_rest_{options.rest_seconds:.0f}s_{size}": worst("writes_at_rest"),
        f"requests_at_rest_{options.rest_seconds:.0f}s_{size}": worst("requests_at_rest"),
        f"operator_rss_megabytes_{size}": worst("operator_rss_megabytes"),
        f"one_change_seconds_{size}": worst("one_change_seconds"),
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
