"""Requests that another revision answers, on a real API server; the traffic is played."""

import pytest

from support import pod_outcomes
from support.played_traffic import Behaviour
from support.rollouts import Play, canary, phases

pytestmark = pytest.mark.rollouts

ROUTER = "modelserver.dev/role"


@pytest.fixture
def play(servers, stage, operator):
    """Of one server in a namespace of its own, watched by one operator."""
    return Play(servers, stage)


def by_header(name="beta", **more):
    return {"name": name, "match": {"header": {"name": "x-track", "value": name}}, **more}


LONGER = {"runtime": {"args": ["--longer"]}}


def experiment(status, name="beta"):
    return next((one for one in status.get("experiments", []) if one["name"] == name), {})


def try_out(play, *experiments):
    play.servers.patch("chat", {"traffic": {"experiments": list(experiments)}})


def until_running(play, name="beta"):
    return play.until(
        lambda status: (
            experiment(status, name).get("phase") == "Running" and experiment(status, name)
        ),
        f"{name} runs",
    )


def deployment(play, revision):
    return play.servers.child("Deployment", f"chat-{revision}")


def test_one_comes_is_counted_beside_stable_and_goes(play, operator):
    stable = play.begin({"strategy": "Rolling"})
    play.stage.traffic.behaviours = {stable: Behaviour()}
    try_out(play, by_header(variant=LONGER, replicas=2))
    found = until_running(play)
    assert found["revision"] != stable
    assert play.root_selector()[ROUTER] == "router"
    assert deployment(play, found["revision"])["spec"]["replicas"] == 2
    assert play.condition("ExperimentsRunning") == ("True", "Running")
    assert play.condition("Ready") == ("True", "Serving")

    counted = play.until(
        lambda status: (
            experiment(status).get("answered", {}).get("p90Milliseconds") and experiment(status)
        ),
        "numbers of both",
    )
    assert counted["answered"]["requests"] > 0
    assert counted["stable"]["requests"] > 0
    assert counted["answered"]["p90Milliseconds"] <= 100

    try_out(play)
    play.until(lambda _: ROUTER not in play.root_selector(), "the router out of the way")
    play.until(lambda status: "experimentTraffic" not in status, "the end")
    play.until_only(stable)
    assert play.servers.child("Deployment", "chat-router") is None
    assert [one for one in phases(operator.proxy, play.servers.namespace) if one] == []


def test_one_without_ready_pods_changes_nothing_for_anybody(play):
    stable = play.begin({"strategy": "Rolling"})
    play.stage.direct(pod_outcomes.exiting(1, message="no such flag"), server="chat")
    play.stage.direct(play.stage.traffic.outcome, server="chat", revision=stable)
    play.until(lambda _: play.condition("Serving")[0] == "True", "stable as before")
    try_out(play, by_header(variant=LONGER))
    play.until(lambda status: experiment(status).get("reason") == "PodsNotReady", "what it lacks")
    assert play.condition("ExperimentsRunning") == ("False", "Waiting")
    assert play.condition("Serving") == ("True", "Serving")
    assert play.status["servingRevision"] == stable


def test_a_rollout_goes_on_beside_it(play):
    old = play.begin(canary())
    try_out(play, by_header(variant=LONGER))
    tried = until_running(play)["revision"]
    play.stage.traffic.behaviours = {tried: Behaviour(error_percent=50)}
    new = play.change()
    play.until_promoted(new)
    assert old != new
    again = until_running(play)
    assert again["revision"] not in {old, new}
    assert play.root_selector()[ROUTER] == "router"


def test_an_operator_that_comes_back_goes_on_counting(play, operator):
    play.begin({"strategy": "Rolling"})
    try_out(play, by_header(variant=LONGER))
    until_running(play)
    counted = play.until(
        lambda status: experiment(status).get("answered", {}).get("requests"), "a count"
    )
    operator.kill()
    operator.start()
    more = play.until(
        lambda status: (
            experiment(status).get("answered", {}).get("requests", 0) > counted
            and experiment(status)
        ),
        "more",
    )
    assert more["phase"] == "Running"
