"""`python -m bench.crash_sweep`: kills the operator before and after every write of a life.

A ModelServer is created, changed to a new revision and deleted, on a real API server with the real
controllers; the operator runs under its own account behind a proxy that kills it at the chosen
write and starts it again. Figures: how many points were tried, and how many did not end as a life
without a kill does. The rig is that of the tests (tests/support/crash_sweep.py).
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from bench.results_file import REPOSITORY, Result, Target, versions
from devcluster.api import Cluster, Mode, api_cluster, up
from devcluster.catalog import KUBERNETES

sys.path.append(str(REPOSITORY / "tests"))

from support.crash_sweep import Case, Point, Sweep, open_lanes, sweep
from support.installation import install_definitions
from support.kube import Kube
from support.manifests import Manifest, render
from support.stage import Stage

CLUSTER = "crash-sweep"
NOTE = (
    "A point is one SIGKILL before or after one write; missed are writes that came in the life "
    "without a kill and in none of three lives with one. Renewals of the Lease follow from the "
    "clock and are left out. Deleting a ModelServer needs no write of the operator: the garbage "
    "collector takes the children by their ownerReferences."
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crash_sweep", description=__doc__)
    parser.add_argument("--lanes", type=int, default=3, help="operators side by side")
    arguments = parser.parse_args()
    began = time.monotonic()
    swept = run(arguments.lanes)
    path = result_of(swept, time.monotonic() - began).write()
    print(f"{len(swept.tried)} points, {len(swept.failed)} failed; {path}")
    return 1 if swept.failed else 0


def run(lanes: int) -> Sweep:
    names = lane_names(lanes)
    with (
        api_server(CLUSTER) as (cluster, kube, manifests, folder),
        Stage(cluster),
        open_lanes(cluster, kube, manifests, folder, names) as opened,
    ):
        return sweep(opened, tell=teller())


def lane_names(lanes: int) -> list[str]:
    return [f"lane-{number}" for number in range(lanes)]


@contextmanager
def api_server(name: str) -> Iterator[tuple[Cluster, Kube, list[Manifest], Path]]:
    """With our definitions, the real controllers, and a folder that goes with it."""
    with (
        api_cluster(name) as cluster,
        Kube.admin_of(cluster) as kube,
        tempfile.TemporaryDirectory() as folder,
    ):
        manifests = render(cluster.kubectl)
        install_definitions(kube, manifests)
        up(name, mode=Mode.API_ONLY, controllers=True)
        yield cluster, kube, manifests, Path(folder)


def teller() -> Callable[[Case], None]:
    numbers = count(1)

    def tell(case: Case) -> None:
        print(f"{next(numbers):4} {case}", flush=True)

    return tell


def figures_of(swept: Sweep, seconds: float) -> dict[str, float]:
    tried = Counter(case.point.phase for case in swept.tried)
    return {
        "crash_points_tried": len(swept.tried),
        "crash_points_failed": len(swept.failed),
        "crash_points_missed": len(missed_of(swept)),
        **{f"crash_points_tried_{phase}": tried[phase] for phase in swept.reference},
        **{f"writes_of_{phase}": len(known.writes) for phase, known in swept.reference.items()},
        "seconds": round(seconds, 1),
    }


def missed_of(swept: Sweep) -> list[Point]:
    return swept.missed(point for points in swept.points.values() for point in points)


def result_of(swept: Sweep, seconds: float) -> Result:
    return Result(
        bench="crash_sweep",
        command="python -m bench.crash_sweep",
        software=versions(["kopf", "aiohttp"]) | {"kubernetes": KUBERNETES},
        figures=figures_of(swept, seconds),
        targets={
            "crash_points_failed": Target(bound="0", holds=not swept.failed),
            "crash_points_missed": Target(bound="0", holds=not missed_of(swept)),
        },
        rounds=[round_of(case) for case in swept.cases],
        note=NOTE,
    )


def round_of(case: Case) -> dict[str, Any]:
    return {**case.point._asdict(), "reached": case.reached, "problem": case.problem}


if __name__ == "__main__":
    sys.exit(main())
