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
from pathlib import Path

from bench.results_file import REPOSITORY, Result, Target, versions
from devcluster.api import api_cluster

sys.path.append(str(REPOSITORY / "tests"))

from support.crash_sweep import Case, Sweep, open_lanes, sweep
from support.installation import Installation, wait_established
from support.kube import Kube
from support.manifests import render
from support.stage import Stage

CLUSTER = "crash-sweep"


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
        api_cluster(CLUSTER, controllers=True) as cluster,
        Kube.admin_of(cluster) as kube,
        Stage(cluster),
        tempfile.TemporaryDirectory() as folder,
    ):
        manifests = render(cluster.kubectl)
        Installation.make(kube, manifests, "modelserver-system")
        wait_established(kube, manifests)
        with open_lanes(cluster, kube, manifests, Path(folder), lanes) as opened:
            return sweep(opened, lambda longest: range(1, longest + 1), tell=teller())


def teller() -> Callable[[Case], None]:
    tried = Counter[str]()

    def tell(case: Case) -> None:
        if case.hit or case.problem:
            tried[case.phase] += 1
            print(f"{tried.total():4} {case}", flush=True)

    return tell


def result_of(swept: Sweep, seconds: float) -> Result:
    tried = Counter(case.phase for case in swept.tried)
    figures = {
        "crash_points_tried": len(swept.tried),
        "crash_points_failed": len(swept.failed),
        **{f"crash_points_tried_{phase}": tried[phase] for phase in swept.reference},
        **{f"writes_of_{phase}": len(known.writes) for phase, known in swept.reference.items()},
        "seconds": round(seconds, 1),
    }
    return Result(
        bench="crash_sweep",
        command="python -m bench.crash_sweep",
        software=versions(["kopf", "aiohttp"]),
        figures=figures,
        targets={
            "crash_points_failed": Target(bound="0", holds=not swept.failed),
            "crash_points_tried": Target(bound=f">= {enough(swept)}", holds=is_complete(swept)),
        },
        rounds=[
            {
                "phase": c.phase,
                "write": c.number,
                "side": c.side,
                "hit": c.hit,
                "problem": c.problem,
            }
            for c in swept.tried
        ],
        note=(
            "A point is one SIGKILL before or after one write; the renewals of the Lease are left "
            "out. Deleting a ModelServer needs no write of the operator: the garbage collector "
            "takes the children by their ownerReferences."
        ),
    )


def enough(swept: Sweep) -> int:
    """Before and after every write of the life without a kill."""
    return 2 * sum(len(known.writes) for known in swept.reference.values())


def is_complete(swept: Sweep) -> bool:
    return len(swept.tried) >= enough(swept)


if __name__ == "__main__":
    sys.exit(main())
