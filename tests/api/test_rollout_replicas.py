"""Two operators and one rollout: one goes on where the other was, and neither decides twice."""

import itertools
import json

import pytest

from support.rollouts import Play, canary

pytestmark = pytest.mark.rollouts


@pytest.fixture
def pair(make_operator):
    return [make_operator(name).start() for name in ("replica-a", "replica-b")]


@pytest.fixture
def play(servers, stage, pair):
    return Play(servers, stage)


def weights(pair, namespace):
    """As stored, whoever wrote them."""
    writes = [seen for one in pair for seen in one.proxy.writes(namespace=namespace)]
    stored = [
        json.loads(seen.body)["status"].get("rollout", {}).get("weights")
        for seen in sorted(writes, key=lambda seen: seen.at)
        if seen.request.resource == "modelservers" and seen.succeeded
    ]
    return [one for one, _ in itertools.groupby(w["intended"] for w in stored if w)]


def leader_of(pair, namespace):
    wrote = [len(one.proxy.writes(namespace=namespace)) for one in pair]
    return pair[wrote.index(max(wrote))]


def test_a_follower_goes_on_where_a_killed_leader_was(play, pair):
    play.begin(canary(steps=[{"weightPercent": 20, "holdSeconds": 5}, {"weightPercent": 100}]))
    new = play.change()
    play.until_phase("Analyzing")
    leader_of(pair, play.servers.namespace).kill()
    play.until_promoted(new)
    assert weights(pair, play.servers.namespace) == [0, 20, 100]


def test_a_leader_that_was_frozen_decides_nothing_any_more(play, pair):
    play.begin(canary(steps=[{"weightPercent": 20, "holdSeconds": 5}, {"weightPercent": 100}]))
    new = play.change()
    play.until_phase("Analyzing")
    leader = leader_of(pair, play.servers.namespace)
    leader.freeze()
    play.until_promoted(new)
    seen = len(leader.proxy.seen)
    leader.thaw()
    play.until_only(new)
    third = play.change()
    play.until_promoted(third)
    assert [str(one) for one in leader.proxy.writes(seen) if one.succeeded] == []
    assert weights(pair, play.servers.namespace) == [0, 20, 100, 0, 20, 100]
