"""Pictures of rollouts are drawn from what was seen, whatever that was."""

from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.rolling.story import changes, story_of
from bench.rolling.story_chart import chart
from modelserver_operator.rollout.sequential import GRID

CHANGED_AT = 1000.0
OLD, NEW = "a1b2c3d4", "d4e5f6a7"


def seen(after, phase, weight=0, log_ratio=None):
    gates = [{"name": "errors", "logRatios": [log_ratio] * len(GRID)}] if log_ratio else []
    spec = {"strategy": "Canary", "steps": [{"weightPercent": 100}]}
    run = {"phase": phase, "weights": {"intended": weight}, "gates": gates, "spec": spec}
    return SimpleNamespace(at=CHANGED_AT + after, run=run)


def answer(after, revision, status=200, *, divided=True):
    said = revision if divided else ""
    return SimpleNamespace(
        began=CHANGED_AT + after, status=status, revision=revision, router_says=said
    )


def a_play(states, answers):
    return SimpleNamespace(
        changed_at=CHANGED_AT, new=NEW, states=lambda: states,
        traffic=SimpleNamespace(answers=answers),
    )  # fmt: skip


@pytest.fixture
def story():
    states = [
        seen(0, "Preparing"),
        seen(3, "Stepping", 10),
        seen(4, "Analyzing", 10, 0.5),
        seen(6, "Analyzing", 10, 2.302585),
        seen(9, "RolledBack"),
    ]
    answers = [
        answer(-1, OLD),
        answer(1, OLD, divided=False),
        answer(5, OLD),
        answer(5.5, NEW),
        answer(5.9, NEW, 500),
    ]
    return story_of(a_play(states, answers), "errors")


def test_a_story_says_when_each_thing_changed(story):
    assert story["phases"] == [
        [0, "Preparing"], [3, "Stepping"], [4, "Analyzing"], [9, "RolledBack"],
    ]  # fmt: skip
    assert story["weights"] == [[0, 0], [3, 10], [9, 0]]
    assert story["evidence"] == [[4, 0.217], [6, 1.0]]


def test_requests_are_counted_when_they_were_sent(story):
    assert [bucket["at"] for bucket in story["traffic"]] == [0, 2, 4, 6, 8]
    assert story["traffic"][0] == {
        "at": 0, "requests": 1, "failed": 0, "of_canary": 0, "divided": 0, "divided_to_canary": 0,
    }  # fmt: skip
    assert story["traffic"][2] == {
        "at": 4, "requests": 3, "failed": 1, "of_canary": 2, "divided": 3, "divided_to_canary": 2,
    }  # fmt: skip


def test_what_rejects_is_that_of_the_rules_of_the_run(story):
    """1 % of false alarms, divided between errors and latency; and a quarter more (Ville)."""
    assert 10 ** story["evidence_needed"] == pytest.approx(1.25 / (0.01 / 2), rel=0.01)


def test_the_picture_shows_every_phase_and_every_share(story):
    drawn = ET.fromstring(chart(story, "A canary"))
    titles = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "A canary"
    assert [one.split(",")[0] for one in titles[1:5]] == [phase for _, phase in story["phases"]]
    assert "2 of 3" in titles


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3)), max_size=30))
def test_a_change_is_told_once(told):
    found = changes(iter(sorted(told)))
    values = [value for _, value in found]
    assert all(before != after for before, after in pairwise(values))
    assert (not told) == (not found)
