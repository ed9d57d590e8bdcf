"""Experiments with real pods and the built-in router, under requests of which none may fail."""

import math

import httpx
import pytest

from support.marked_traffic import marked_traffic
from support.waiting import wait_until

pytestmark = [pytest.mark.rollouts, pytest.mark.timeout(1200)]

NAME = "trial"
PATIENCE = 240  # seconds of any one thing, on a machine that is busy
USERS, PERCENT = 150, 30
EXPERIMENTS = {
    "by-header": {"header": {"name": "x-track", "value": "beta"}},
    "by-cookie": {"cookie": {"name": "group", "value": "testers"}},
    "by-user": {"userKeyPercent": PERCENT},
}


def experiment(name):
    """All of them differ from what serves, and from each other."""
    return {
        "name": name,
        "match": EXPERIMENTS[name],
        "variant": {"runtime": {"env": [{"name": "MARKER", "value": name}]}},
    }


class Trial:
    """A server whose experiments come and go, and clients of it."""

    def __init__(self, servers, spec):
        self.servers = servers
        self.url = ""  # of its Service, when there is one
        self.spec = spec
        no_connection_is_kept = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(timeout=PATIENCE, limits=no_connection_is_kept)

    def ask_for(self, *names):
        traffic = {"experiments": [experiment(name) for name in names]}
        self.servers.apply(NAME, {**self.spec, **({"traffic": traffic} if names else {})})

    @property
    def status(self):
        return (self.servers.get("modelserver", NAME) or {}).get("status", {})

    def running(self):
        """Revisions by the experiments that run."""
        return {
            one["name"]: one["revision"]
            for one in self.status.get("experiments", [])
            if one["phase"] == "Running"
        }

    def until(self, look, what):
        return wait_until(look, timeout=PATIENCE, what=what, interval=0.5)

    def ask(self, **headers):
        """Over a connection of its own: who answered, as the pod says it."""
        answer = self.client.post(
            f"{self.url}/v1/chat/completions",
            json={"model": NAME, "messages": [{"role": "user", "content": "who"}]},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["x-model-revision"]

    def is_routed(self):
        selector = self.servers.get("service", NAME)["spec"]["selector"]
        return "modelserver.dev/role" in selector


@pytest.fixture
def trial(servers, marked):
    trial = Trial(servers, marked)
    trial.ask_for()
    servers.wait_ready(NAME, timeout=PATIENCE)
    trial.url = servers.url(NAME)
    yield trial
    trial.client.close()


def three_sigmas(share, count):
    return 3 * math.sqrt(share * (1 - share) / count)


def test_requests_go_where_experiments_want_them_and_none_fails(trial, record):
    stable = trial.status["servingRevision"]
    with marked_traffic(f"{trial.url}/v1/chat/completions", NAME, 20) as traffic:
        traffic.wait_for_answers(25)
        trial.ask_for(*EXPERIMENTS)
        trial.until(lambda: trial.running().keys() == EXPERIMENTS.keys(), "all of them run")
        revisions = trial.running()
        assert len({stable, *revisions.values()}) == 4
        trial.until(
            lambda: trial.ask(**{"x-track": "beta"}) == revisions["by-header"],
            "every node knows that the Service leads to the router",
        )
        traffic.wait_for_answers(25)

        require_values(trial, revisions)
        require_users(trial, revisions["by-user"], stable, record)
        counted = trial.until(
            lambda: (
                all(
                    one["answered"]["requests"]
                    for one in trial.status["experiments"]
                    if "answered" in one
                )
                and all("answered" in one for one in trial.status["experiments"])
                and trial.status["experiments"]
            ),
            "numbers of each",
        )
        record("counted", {one["name"]: one["answered"]["requests"] for one in counted})
        assert not any(one["answered"].get("errors") for one in counted)

        trial.ask_for()
        trial.until(lambda: not trial.is_routed(), "the router out of the way")
        trial.until(
            lambda: not trial.servers.get("deployment", f"{NAME}-router"), "the router gone"
        )
        trial.until(
            lambda: (
                [c for c in trial.servers.children(NAME) if c.startswith("Deployment/")]
                == [f"Deployment/{NAME}-{stable}"]
            ),
            "the pods of experiments gone",
        )
        traffic.wait_for_answers(25)
    record("requests", traffic.sent)
    assert traffic.failures() == []
    assert traffic.mistaken() == []
    assert traffic.lost() == set()


def require_values(trial, revisions):
    for _ in range(20):
        assert trial.ask(**{"x-track": "beta"}) == revisions["by-header"]
        assert trial.ask(cookie="a=b; group=testers") == revisions["by-cookie"]
        assert trial.ask(**{"x-track": "beta", "cookie": "group=testers"}) == revisions["by-header"]


def require_users(trial, tried, stable, record):
    """As many as asked for, and the same user always gets the same."""
    users = [{"authorization": f"Bearer key-{number}"} for number in range(USERS)]
    first, second = ([trial.ask(**user) for user in users] for _ in range(2))
    assert first == second
    assert set(first) == {tried, stable}
    share = first.count(tried) / USERS
    record("share_of_users", share)
    assert abs(share - PERCENT / 100) <= three_sigmas(PERCENT / 100, USERS)
