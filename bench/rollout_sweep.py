"""`python -m bench.rollout_sweep`: kills the operator before and after every write of a rollout.

A ModelServer is created and rolled out in three steps behind the built-in router, with requests
copied first, on a real API server with the real controllers; what routers have counted is played.
Each rollout must end as the one without a kill, with the same weights in the same order and no
request counted twice. The rig is that of the tests (tests/support/rollout_sweep.py).
"""

import argparse
import sys
import time

from bench.crash_sweep import api_server, figures_of, lane_names, round_of, teller
from bench.results_file import REPOSITORY, Result, Target, versions
from devcluster.catalog import KUBERNETES

sys.path.append(str(REPOSITORY / "tests"))

from support.crash_sweep import Sweep, open_lanes, sweep
from support.rollout_sweep import story_of
from support.stage import Stage

CLUSTER = "rollout-sweep"
FEWEST_POINTS = 100
NOTE = (
    "A point is one SIGKILL before or after one write; missed are writes that came in the rollout "
    "without a kill and in none of three with one, because how often counts are written depends on "
    "the pace. Renewals of the Lease follow from the clock and are left out. Traffic is played: "
    "each time that a router is asked it has counted some hundred requests more."
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rollout_sweep", description=__doc__)
    parser.add_argument("--lanes", type=int, default=3, help="operators side by side")
    parser.add_argument("--stride", type=int, default=1, help="kill at every so manieth point")
    arguments = parser.parse_args()
    began = time.monotonic()
    swept = run(arguments.lanes, arguments.stride)
    path = result_of(swept, time.monotonic() - began).write()
    print(f"{len(swept.tried)} points, {len(swept.failed)} failed; {path}")
    return 1 if swept.failed else 0


def run(lanes: int, stride: int) -> Sweep:
    names = lane_names(lanes)
    with api_server(CLUSTER) as (cluster, kube, manifests, folder), Stage(cluster) as stage:
        for name in names:
            stage.direct(stage.traffic.outcome, namespace=name)
        story = story_of(stage.traffic)
        with open_lanes(cluster, kube, manifests, folder, names, story) as opened:
            return sweep(opened, stride=stride, tell=teller())


def result_of(swept: Sweep, seconds: float) -> Result:
    return Result(
        bench="rollout_sweep",
        command="python -m bench.rollout_sweep",
        software=versions(["kopf", "aiohttp"]) | {"kubernetes": KUBERNETES},
        figures=figures_of(swept, seconds),
        targets={
            "crash_points_failed": Target(bound="0", holds=not swept.failed),
            "crash_points_tried": Target(
                bound=f">= {FEWEST_POINTS}", holds=len(swept.tried) >= FEWEST_POINTS
            ),
        },
        rounds=[round_of(case) for case in swept.cases],
        note=NOTE,
    )


if __name__ == "__main__":
    sys.exit(main())
