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
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from bench.results_file import REPOSITORY, Result, Target, versions
from devcluster.api import Mode, api_cluster, up
from devcluster.catalog import KUBERNETES

sys.path.append(str(REPOSITORY / "tests"))

from support.crash_sweep import Case, Sweep, open_lanes, sweep
from support.installation import install_definitions
from support.kube import Kube
from support.manifests import render
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
    with (
        api_cluster(CLUSTER) as cluster,
        Kube.admin_of(cluster) as kube,
        tempfile.TemporaryDirectory() as folder,
    ):
        names = [f"lane-{number}" for number in range(lanes)]
        manifests = render(cluster.kubectl)
        install_definitions(kube, manifests)
        up(CLUSTER, mode=Mode.API_ONLY, controllers=True)
        with Stage(cluster), open_lanes(cluster, kube, manifests, Path(folder), names) as opened:
            return sweep(opened, tell=teller())


def teller() -> Callable[[Case], None]:
    numbers = count(1)

    def tell(case: Case) -> None:
        print(f"{next(numbers):4} {case}", flush=True)

    return tell


def result_of(swept: Sweep, seconds: float) -> Result:
    tried = Counter(case.point.phase for case in swept.tried)
    missed = swept.missed(point for points in swept.points.values() for point in points)
    figures = {
        "crash_points_tried": len(swept.tried),
        "crash_points_failed": len(swept.failed),
        "crash_points_missed": len(missed),
        **{f"crash_points_tried_{phase}": tried[phase] for phase in swept.reference},
        **{f"writes_of_{phase}": len(known.writes) for phase, known in swept.reference.items()},
        "seconds": round(seconds, 1),
    }
    return Result(
        bench="crash_sweep",
        command="python -m bench.crash_sweep",
        software=versions(["kopf", "aiohttp"]) | {"kubernetes": KUBERNETES},
        figures=figures,
        targets={
            "crash_points_failed": Target(bound="0", holds=not swept.failed),
            "crash_points_missed": Target(bound="0", holds=not missed),
        },
        rounds=[round_of(case) for case in swept.cases],
        note=NOTE,
    )


def round_of(case: Case) -> dict[str, Any]:
    return {**case.point._asdict(), "reached": case.reached, "problem": case.problem}


if __name__ == "__main__":
    sys.exit(main())
