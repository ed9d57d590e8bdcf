"""`python -m bench.rollout_traffic`: what clients notice of rollouts, on a real Kubernetes.

Rollouts are played one after the other, each with pods, built-in routers and 25 marked requests a
second of its own: a healthy canary, one that fails, one that is slow, one that answers differently,
a swap, and a model that really generates. Figures: requests that failed though stable would have
answered them, how soon bad canaries were found, and how exactly traffic was divided. Writes
bench/results/rollout_traffic.json and two pictures to docs/images. The scenarios and the rig are
those of the tests (tests/e2e/rollout_scenarios.py); so is the cluster, where one is up.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.results_file import FOLDER, REPOSITORY, Result, Target, versions
from bench.rolling.story import story_of
from bench.rolling.story_chart import chart
from devcluster.catalog import KUBERNETES
from devcluster.demo import install, model
from devcluster.demo.kubectl import Kubectl

sys.path.append(str(REPOSITORY / "tests"))

from e2e import rollout_scenarios as scenarios
from e2e.rollout_play import Play, Watch, watching
from e2e.stage import Servers, borrowed_cluster, fresh_namespace, stand_in

CLUSTER = "rollout-traffic"
NAMESPACE = "modelserver-bench"
FEWEST_REQUESTS_A_SECOND = 20
MOST_SIGMAS = 3
# Long enough at each weight that a picture shows it.
STEPS = [
    {"weightPercent": 10, "holdSeconds": 20},
    {"weightPercent": 50, "holdSeconds": 15},
    {"weightPercent": 100, "holdSeconds": 10},
]
SHOWN = {**scenarios.CANARY, "steps": STEPS, "bakeSeconds": 10}
GOOD = 200
PICTURES = {
    "healthy": ("rollout-healthy.svg", "A healthy canary takes over"),
    "failing": ("rollout-rolled-back.svg", "A canary that fails every tenth request"),
}
NOTE = (
    "One play of each rollout. A failed request is one that a client got no good answer to, but for"
    " the errors that the failing canary itself answered. detection_seconds are from the first"
    " request, or copy, of the new revision to the decision. share_percent is what clients saw of"
    " requests that came through the router while every router had confirmed the weight;"
    " share_sigmas_worst is the largest deviation from the weight in standard deviations of that"
    " many independent draws. longest_wait_seconds_of_swap is how long a client waited for its"
    " answer while the old pods ended and the new ones started. The stand-in answers within 50 ms"
    " and some; real_model generates with a tiny model. Clients, pods and Kubernetes share the"
    " machine."
)

type Figures = dict[str, float]


def healthy(play: Play) -> None:
    scenarios.healthy(play, rollout=SHOWN)


PLAYED: Mapping[str, Callable[[Play], None]] = {
    "healthy": healthy,
    "failing": scenarios.failing,
    "slow": scenarios.slow,
    "differing": scenarios.differing,
    "swapped": scenarios.swapped,
    "real_model": scenarios.of_real_runtime,
}


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.draw:
        _draw(json.loads((FOLDER / "rollout_traffic.json").read_text())["rounds"])
        return 0
    with staged(has_model=not arguments.stand_in_only) as (servers, watch, specs):
        names = [name for name in PLAYED if spec_of(name) in specs]
        rounds = [played(name, servers, watch, specs) for name in names]
    result = result_of(rounds, "--stand-in-only" if arguments.stand_in_only else "")
    print(result.write())
    _draw(rounds)
    return 0 if all(target.holds for target in result.targets.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.rollout_traffic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    stand_in_only = "without the model that generates, whose training takes minutes"
    parser.add_argument("--stand-in-only", action="store_true", help=stand_in_only)
    parser.add_argument("--draw", action="store_true", help="only draw, from the result file")
    return parser


# -- stage ---------------------------------------------------------------------------------------


@contextmanager
def staged(*, has_model: bool) -> Iterator[tuple[Servers, Watch, dict[str, Any]]]:
    """A cluster with the operator, and what the stand-in and the real model ask for."""
    with borrowed_cluster(CLUSTER) as cluster:
        kubectl = cluster.up()
        images = cluster.images()
        install.install(kubectl, operator_image=images.operator, runtime_image=images.runtime)
        fresh_namespace(kubectl, NAMESPACE)
        servers = Servers(kubectl, NAMESPACE)
        specs = {"stand_in": stand_in(servers, images)}
        if has_model:
            specs["real"] = _real(kubectl, images.runtime)
        with watching(kubectl, NAMESPACE) as watch:
            yield servers, watch, specs
        kubectl.run("delete", "namespace", NAMESPACE, "--wait")


def _real(kubectl: Kubectl, image: str) -> dict[str, Any]:
    model.train_in_cluster(kubectl, NAMESPACE, image)
    return {"model": {"uri": f"pvc://{model.CLAIM}"}, "replicas": 1}


def spec_of(name: str) -> str:
    return "real" if name == "real_model" else "stand_in"


def played(name: str, servers: Servers, watch: Watch, specs: dict[str, Any]) -> dict[str, Any]:
    spec = specs[spec_of(name)]
    play = Play(servers=servers, watch=watch, name=name.replace("_", "-"), spec=spec)
    PLAYED[name](play)
    figures = figures_of(name, play)
    print(f"{name:12} {json.dumps(figures)}", flush=True)
    story = {"story": story_of(play, "errors")} if name in PICTURES else {}
    return {"scenario": name, "phases": play.story()} | figures | story


# -- figures -------------------------------------------------------------------------------------


def figures_of(name: str, play: Play) -> Figures:
    traffic = play.traffic
    began = [answer.began for answer in traffic.answers]
    own = play.new if name == "failing" else ""
    unnoticed = len(traffic.failures(but_of=own))
    return {
        "requests": len(began),
        "requests_a_second": round(len(began) / (max(began) - min(began)), 1),
        "failed_requests": unnoticed + len(traffic.mistaken()) + len(traffic.lost()),
        **_figures_of_kind(name, play),
    }


def _figures_of_kind(name: str, play: Play) -> Figures:
    match name:
        case "healthy" | "real_model":
            return {"seconds_to_succeeded": play.seconds_of("Succeeded")} | shares_of(play)
        case "swapped":
            waits = [answer.seconds for answer in play.traffic.answers]
            return {"longest_wait_seconds": round(max(waits), 1)}
        case _:
            first = "Shadowing" if name == "differing" else "Analyzing"
            seconds = play.entered("RollingBack") - play.entered(first)
            errors = [one for one in play.traffic.failures() if one.revision == play.new]
            return {"detection_seconds": round(seconds, 1), "errors_of_canary": len(errors)}


def shares_of(play: Play) -> Figures:
    """At each weight below 100: what was seen, and how far from the weight that is."""
    figures: Figures = {}
    for weight, since, until in play.held_weights():
        shares = play.traffic.through_router(since, until)
        requests, wanted = shares.total(), weight / 100
        if not requests or not 0 < wanted < 1:
            continue
        seen = shares[play.new] / requests
        sigmas = abs(seen - wanted) / math.sqrt(wanted * (1 - wanted) / requests)
        figures |= {
            f"share_percent_at_{weight}": round(100 * seen, 2),
            f"share_sigmas_at_{weight}": round(sigmas, 2),
        }
    return figures


def result_of(rounds: list[dict[str, Any]], flags: str) -> Result:
    by_name = {one["scenario"]: one for one in rounds}
    failed = sum(one["failed_requests"] for one in rounds)
    slowest = min(one["requests_a_second"] for one in rounds)
    sigmas = max(value for one in rounds for name, value in one.items() if "sigmas" in name)
    figures = {
        "failed_requests_during_rollouts": failed,
        "requests": sum(one["requests"] for one in rounds),
        "requests_a_second_least": slowest,
        "share_sigmas_worst": sigmas,
        "longest_wait_seconds_of_swap": by_name["swapped"]["longest_wait_seconds"],
        "errors_of_failing_canary": by_name["failing"]["errors_of_canary"],
    }
    for name, one in by_name.items():
        kinds = ("detection_seconds", "seconds_to_succeeded", "share_percent", "requests_a_second")
        figures |= {f"{key}_{name}": one[key] for key in one if key.startswith(kinds)}
    return Result(
        bench="rollout_traffic",
        command=f"python -m bench.rollout_traffic {flags}".rstrip(),
        software=versions(["kopf", "uvicorn", "httpx"]) | {"kubernetes": KUBERNETES},
        figures=figures,
        targets={
            "failed_requests_during_rollouts": Target(bound="0", holds=not failed),
            "requests_a_second_least": Target(
                bound=f">= {FEWEST_REQUESTS_A_SECOND}", holds=slowest >= FEWEST_REQUESTS_A_SECOND
            ),
            "share_sigmas_worst": Target(bound=f"<= {MOST_SIGMAS}", holds=sigmas <= MOST_SIGMAS),
        },
        rounds=rounds,
        note=NOTE,
    )


def _draw(rounds: list[dict[str, Any]]) -> None:
    for one in rounds:
        if one["scenario"] in PICTURES:
            file, title = PICTURES[one["scenario"]]
            path = REPOSITORY / "docs" / "images" / file
            path.write_text(chart(one["story"], title))
            print(path)


if __name__ == "__main__":
    sys.exit(main())
