"""`python -m bench.zero`: what clients lose while a server sleeps and wakes, on a real Kubernetes.

A server of a stand-in that sleeps after ten seconds without a request goes 1 → 0 → 1 → 0 under
marked requests: while it is warm, at the moments when it is about to sleep, and asleep; then it is
woken by two hundred at once. All of it twice, through the server's own Service and through the
gateway's door. A request is lost if its client had, within its deadline, neither an answer nor 429
or 503 with Retry-After. The rig and the cluster are those of the tests, where one is up.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.command_line import count
from bench.results_file import REPOSITORY, Result, Target, versions
from devcluster.catalog import KUBERNETES
from devcluster.demo import install

sys.path.append(str(REPOSITORY / "tests"))

from e2e.rollout_play import ASKED
from e2e.sleeping import PATIENCE, Sleeper, a_key, installed_gateway, sleepy_spec
from e2e.stage import Servers, borrowed_cluster, fresh_namespace, stand_in
from support.marked_traffic import MarkedTraffic, marked_traffic

CLUSTER = "zero"
NAMESPACE = "modelserver-bench"
WAYS = ("service", "gateway")
BURST = 200
# What a server is asked while it is awake: enough to take it through a wake-up and beyond.
WARM_ANSWERS = 100
EDGE_REQUESTS = 20
SLEEPS = 2
# That the client names, so that the gateway knows it too; the client itself waits for longer.
DEADLINE_SECONDS = 100
# A client of a hundred a minute would be refused by its limit, and show nothing of sleep.
_UNLIMITED = {"requests_per_minute": 1_000_000}

type Part = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`headers` let a client in there."""

    name: str
    sleeper: Sleeper
    url: str
    headers: Mapping[str, str]


def main() -> int:
    arguments = _parser().parse_args()
    parts = []
    with staged() as ways:
        for number in range(1, arguments.rounds + 1):
            for way in ways:
                for part in played(way, number):
                    print(json.dumps(part), flush=True)
                    parts.append(part)
    result = result_of(parts, arguments)
    print(result.write())
    return 0 if all(target.holds for target in result.targets.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.zero",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=count, default=1, help="repetitions (1)")
    what = "what explains the figures, for the result file"
    parser.add_argument("--note", default="", help=what)
    return parser


# -- stage ---------------------------------------------------------------------------------------


@contextmanager
def staged() -> Iterator[list[Way]]:
    """Operator, two gateways, and one server for each way, each ready."""
    with borrowed_cluster(CLUSTER) as cluster:
        kubectl = cluster.up()
        images = cluster.images()
        install.install(kubectl, operator_image=images.operator, runtime_image=images.runtime)
        fresh_namespace(kubectl, NAMESPACE)
        servers = Servers(kubectl, NAMESPACE)
        spec = sleepy_spec(stand_in(servers, images))
        key, record = a_key(limits=_UNLIMITED)
        with installed_gateway(cluster, kubectl, {"bench": record}) as door:
            yield [_way(name, servers, spec, door, key) for name in WAYS]
            kubectl.run("delete", "namespace", NAMESPACE, "--wait")


def _way(name: str, servers: Servers, spec: dict[str, Any], door: str, key: str) -> Way:
    server = f"by-{name}"
    servers.apply(server, spec)
    servers.wait_ready(server, timeout=PATIENCE)
    sleeper = Sleeper(servers, server)
    headers = {"x-request-timeout": str(DEADLINE_SECONDS)}
    if name == "service":
        return Way(name=name, sleeper=sleeper, url=sleeper.url, headers=headers)
    headers |= {"authorization": f"Bearer {key}"}
    return Way(name=name, sleeper=sleeper, url=f"{door}{ASKED}", headers=headers)


# -- what is played ------------------------------------------------------------------------------


def played(way: Way, number: int) -> Iterator[Part]:
    """1 → 0 → 1 → 0 with a burst of requests at each edge, and once more by a large burst."""
    sleeper = way.sleeper
    for sleep in range(1, SLEEPS + 1):
        yield steady(way, f"awake-{number}-{sleep}")
        sleeper.until_phase("Standby", "Cold")
        yield at_once(way, f"edge-{number}-{sleep}", EDGE_REQUESTS)
        sleeper.until_asleep()
        if sleep < SLEEPS:
            yield steady(way, f"asleep-{number}-{sleep}")
    yield at_once(way, f"burst-{number}", BURST)
    sleeper.until_asleep()


def steady(way: Way, word: str) -> Part:
    """25 requests a second, until the server is awake and has answered many."""
    model = way.sleeper.name
    more = {"headers": way.headers, "word": word}
    with marked_traffic(way.url, model, BURST, **more) as traffic:
        way.sleeper.until_phase("Warm")
        traffic.wait_for_answers(WARM_ANSWERS, timeout=PATIENCE)
    return part_of(way.name, word, traffic)


def at_once(way: Way, word: str, number: int) -> Part:
    """As many, whatever the server does."""
    found = way.sleeper.phase
    traffic = MarkedTraffic(url=way.url, model=way.sleeper.name, headers=way.headers, word=word)
    asyncio.run(traffic.ask_at_once(number))
    return part_of(way.name, word, traffic) | {"found": found}


def part_of(way: str, word: str, traffic: MarkedTraffic) -> Part:
    untold, unseen = traffic.untold(), traffic.lost()
    statuses = [one.status for one in traffic.answers]
    return {
        "way": way,
        "part": word,
        "requests": traffic.sent,
        "answered": statuses.count(200),
        "refused": len(statuses) - statuses.count(200) - len(untold),
        "lost": len(untold) + len(unseen),
        "mistaken": len(traffic.mistaken()),
        "longest_wait_seconds": round(max(one.seconds for one in traffic.answers), 2),
        "told": sorted({f"{one.status} {one.text}"[:200] for one in untold}),
    }


# -- the result ----------------------------------------------------------------------------------


def result_of(parts: list[Part], arguments: argparse.Namespace) -> Result:
    lost, mistaken = _sum(parts, "lost"), _sum(parts, "mistaken")
    figures = {
        "requests_lost_at_zero": lost,
        "requests_mistaken_at_zero": mistaken,
        "requests_refused_at_zero": _sum(parts, "refused"),
        "requests": _sum(parts, "requests"),
        "sleeps": arguments.rounds * SLEEPS * len(WAYS),
    }
    for way in WAYS:
        own = [one for one in parts if one["way"] == way]
        bursts = [one["longest_wait_seconds"] for one in own if one["part"].startswith("burst")]
        figures |= {
            f"requests_lost_at_zero_through_{way}": _sum(own, "lost"),
            f"requests_through_{way}": _sum(own, "requests"),
            f"longest_wait_seconds_of_burst_through_{way}": max(bursts),
        }
    return Result(
        bench="zero",
        command=f"python -m bench.zero --rounds {arguments.rounds}",
        software=versions(["kopf", "uvicorn", "httpx"]) | {"kubernetes": KUBERNETES},
        figures=figures,
        targets={
            "requests_lost_at_zero": Target(bound="0", holds=not lost),
            "requests_mistaken_at_zero": Target(bound="0", holds=not mistaken),
        },
        rounds=parts,
        note=f"{NOTE} {arguments.note}".strip(),
    )


def _sum(parts: list[Part], name: str) -> int:
    return sum(one[name] for one in parts)


NOTE = (
    "Lost is a request whose client had neither an answer nor 429 or 503 with Retry-After within"
    f" its deadline, of which it tells the gateway {DEADLINE_SECONDS} s. Mistaken is an answer to"
    " another request, or to one that a pod was sent twice. Each server sleeps twice, and is asked"
    " 25 times a second while it is awake and when it is asleep, by"
    f" {EDGE_REQUESTS} at once when it is seen about to sleep, and by {BURST} at once when it is"
    " asleep: through its own Service, and through the gateway's door with a key. The model is a"
    " stand-in that answers within 50 ms and has nothing to load, so a wait is the start of a pod."
    " Clients, pods, gateways and Kubernetes share the machine."
)


if __name__ == "__main__":
    sys.exit(main())
