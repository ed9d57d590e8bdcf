"""What the page says of each model, in words: pure tables."""

from datetime import UTC, datetime

import pytest

from modelserver_runtime.gateway.cluster import Address, Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.cluster.report import (
    Condition,
    Diagnosis,
    Gate,
    Rollout,
    Scaled,
    Scaling,
    ServerReport,
)
from modelserver_runtime.gateway.page import overview, words
from modelserver_runtime.gateway.page.cards import card_of, spark_points, traffic_view
from modelserver_runtime.gateway.page.overview import Filter, Looker, Sight, overview_of
from modelserver_runtime.gateway.page.rollout_view import Tone, rollout_view
from modelserver_runtime.gateway.page.states import Kind, state_of
from modelserver_runtime.gateway.traffic import Recent

NOW = 1_800_000_000.0
POD = Address("10.0.0.1", 8080)
DIAGNOSIS = Diagnosis(code="OutOfMemory", message="It was killed.", hint="Give it more.")


def iso(seconds_ago):
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat()


def model(name="chat", namespace="models", **more):
    given = {"key": ServerKey(namespace, name), "names": (name,), "revision": "abc", **more}
    return ServedModel(**given)


def asleep(**more):
    return model(holder_port=20000, phase="Cold", **more)


def run(phase="Analyzing", **more):
    given = {
        "source": "old",
        "target": "new",
        "strategy": "Canary",
        "phase": phase,
        "began": iso(600),
        "message": "the answers are compared",
    }
    return Rollout(**given | more)


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
        (-5, "0 s"),
    ],
)
def test_durations_have_one_unit(seconds, said):
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, words.NOTHING),
        (0.0004, "0.4 ms"),
        (0.0231, "23 ms"),
        (0.9994, "999 ms"),
        (1.26, "1.3 s"),
        (9.96, "10 s"),
        (61, "61 s"),
    ],
)
def test_latencies_have_two_digits(seconds, said):
    assert words.latency(seconds) == said


@pytest.mark.parametrize(
    ("per_second", "said"),
    [(0, "0"), (0.02, "<0.1"), (0.26, "0.3"), (14.4, "14"), (1234.5, "1,234")],
)
def test_rates_are_short(per_second, said):
    assert words.rate(per_second) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 0, words.NOTHING), (0, 9, "0 %"), (1, 5000, "<0.1 %"), (1, 3, "33 %"), (1, 30, "3.3 %")],
)
def test_shares_are_in_percent(part, whole, said):
    assert words.share(part, whole) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RollingBack", "Rolling back"),
        ("timeToFirstToken", "Time to first token"),
        ("Canary", "Canary"),
        ("", ""),
    ],
)
def test_names_become_words(name, said):
    assert words.spaced(name) == said


@pytest.mark.parametrize("written", ["", "yesterday", "2026-13-45T00:00:00Z"])
def test_what_is_no_time_is_not_said(written):
    assert words.ago(written, NOW) == ""


def test_a_clock_that_is_ahead_makes_no_negative_times():
    assert words.ago(iso(-30), NOW) == "0 s ago"


# -- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stage", "kind", "sentence"),
    [
        (model(ready=(POD,)), "ready", Kind.READY, ""),
        # Of a server that serves what is wrong is said, and it is ready all the same.
        (model(ready=(POD,), report=ServerReport(diagnosis=DIAGNOSIS)), "ready", Kind.READY, ""),
        (model(report=ServerReport(wanted=1, diagnosis=DIAGNOSIS)), "loading", Kind.FAILED, ""),
        (model(problem="rolled back"), "failed", Kind.FAILED, "rolled back"),
        (asleep(), "cold", Kind.ASLEEP, "A request wakes it"),
        (asleep(cold_start_seconds=24), "cold", Kind.ASLEEP, "A request wakes it, in about 24 s"),
        (asleep(), "scheduling", Kind.STARTING, "Waiting for a place on a node"),
        (asleep(), "warming", Kind.STARTING, "Warming up"),
        (model(report=ServerReport(wanted=0)), "scheduling", Kind.STOPPED, "No pods are wanted"),
        (
            model(report=ServerReport(wanted=1)),
            "loading",
            Kind.STARTING,
            "Loading the model",
        ),
        (
            model(report=ServerReport(wanted=1)),
            "something new",
            Kind.STARTING,
            "Waiting for a place on a node",
        ),
    ],
)
def test_a_state_is_a_word_and_a_sentence(given, stage, kind, sentence):
    state = state_of(given, stage, NOW)
    assert (state.kind, state.sentence, state.percent) == (kind, sentence, None)


@pytest.mark.parametrize(
    ("stage", "reported", "percent"),
    [
        ("fetching 62 %", None, 62),
        ("fetching 62.5 %", 10, 62),
        ("fetching", 40, 40),
        ("fetching", None, None),
        ("fetching 999 %", None, 100),
    ],
)
def test_how_much_is_fetched_is_said_as_far_as_it_is_known(stage, reported, percent):
    fetching = model(fetched_percent=reported, report=ServerReport(wanted=1, eta_seconds=90))
    state = state_of(fetching, stage, NOW)
    assert state.percent == percent
    assert state.sentence.endswith("about 90 s left")


def test_who_sleeps_says_for_how_long():
    scaling = Scaling(
        engine="Operator",
        desired=0,
        least=0,
        most=2,
        reason="",
        message="",
        since="",
        phase="Cold",
        phase_since=iso(600),
    )
    state = state_of(asleep(report=ServerReport(scaling=scaling)), "cold", NOW)
    assert state.sentence == "A request wakes it; asleep for 10 min"


# -- rollouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "title", "tone", "percent"),
    [
        (run(intended_percent=25, confirmed_percent=25), "Rolling new out", Tone.OPEN, 25),
        (run("Succeeded"), "Last rollout: new took over", Tone.GOOD, None),
        (run("RolledBack"), "Last rollout: new was rolled back", Tone.BAD, None),
        (run("RollingBack"), "Rolling new back", Tone.BAD, 0),
        (run(strategy=""), "Rolling new out", Tone.OPEN, None),  # Rolling: no share is decided
    ],
)
def test_a_rollout_says_where_it_is(given, title, tone, percent):
    view = rollout_view(given, NOW)
    assert (view.title, view.tone, view.percent) == (title, tone, percent)
    assert view.message == "The answers are compared"


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0, 0, ""), "No client gets answers of it yet"),
        ((25, 25, "24.8"), "25 % of the requests, 24.8 % observed"),
        ((25, 25, ""), "25 % of the requests"),
        ((25, 50, "40.0"), "25 % intended; it may be getting up to 50 % by now"),
    ],
)
def test_a_weight_that_is_not_confirmed_is_no_fact(weights, said):
    intended, confirmed, observed = weights
    given = run(intended_percent=intended, confirmed_percent=confirmed, observed_percent=observed)
    assert rollout_view(given, NOW).weight == said


def test_the_step_is_told_where_the_steps_are_known():
    assert rollout_view(run(steps=(5, 25, 100), step=2), NOW).facts == (
        "Canary · step 2 of 3 · began 10 min ago"
    )
    assert rollout_view(run(step=2), NOW).facts == "Canary · began 10 min ago"
    assert "step" not in rollout_view(run("Succeeded", steps=(5, 100), step=2), NOW).facts


def test_evidence_is_shown_as_it_was_written():
    gates = (
        Gate(name="errors", outcome="Failing", message="9 of 10 failed"),
        Gate(name="latency", outcome="Undecided", message=""),
    )
    seen = rollout_view(run(gates=gates), NOW).gates
    assert [(one.name, one.tone, one.message) for one in seen] == [
        ("Errors", Tone.BAD, "9 of 10 failed"),
        ("Latency", Tone.OPEN, ""),
    ]


def test_what_keeps_a_rollout_is_said_once_and_only_while_it_lasts():
    kept = {"paused_by": "command", "holding": "no traffic", "mirror_percent": 10}
    going = dict(rollout_view(run(**kept, evidence="it was slow"), NOW).notes)
    assert going == {
        "Paused": "by command",
        "Waits": "No traffic",
        "Copies": "10 % of the requests are copied to new",
        "Why": "It was slow",
    }
    assert dict(rollout_view(run("RolledBack", **kept, evidence="x"), NOW).notes) == {"Why": "X"}
    assert not rollout_view(run(holding="the answers are compared"), NOW).notes


# -- cards ---------------------------------------------------------------------------------------


def test_a_line_of_requests_stays_within_its_frame():
    points = [tuple(map(float, one.split(","))) for one in spark_points([0, 5, 10]).split()]
    assert points == [(0.0, 26.0), (60.0, 14.0), (120.0, 2.0)]
    assert {one.split(",")[1] for one in spark_points([0, 0, 0]).split()} == {"26.0"}


@pytest.mark.parametrize(
    ("recent", "failed", "is_failing", "is_idle"),
    [
        (Recent(), words.NOTHING, False, True),
        (Recent(in_flight=1), words.NOTHING, False, False),
        (Recent(answered=1000, failed=1), "0.1 %", False, False),
        (Recent(answered=100, failed=1), "1.0 %", True, False),
    ],
)
def test_failures_are_red_from_one_percent_on(recent, failed, is_failing, is_idle):
    view = traffic_view(recent)
    assert (view.failed, view.is_failing, view.is_idle) == (failed, is_failing, is_idle)


@pytest.mark.parametrize(
    ("kind", "status", "tone"),
    [
        ("Ready", "True", Tone.GOOD),
        ("Ready", "False", Tone.BAD),
        ("Ready", "Unknown", Tone.OPEN),
        ("Progressing", "True", Tone.OPEN),
        ("Progressing", "False", Tone.OPEN),
        ("Stalled", "True", Tone.BAD),
        ("Degraded", "True", Tone.BAD),
        ("Degraded", "False", Tone.OPEN),
    ],
)
def test_conditions_have_the_colour_of_what_they_mean(kind, status, tone):
    condition = Condition(type=kind, status=status, reason="R", message="", since=iso(60))
    seen = card_of("chat", model(report=ServerReport(conditions=(condition,))), "", Recent(), NOW)
    assert seen.conditions[0].tone is tone
    assert seen.conditions[0].since == "60 s ago"


def test_scaling_says_who_wants_how_many_and_why():
    scaling = Scaling(
        engine="KEDA",
        desired=3,
        least=1,
        most=8,
        reason="inflight 22/8",
        message="",
        since=iso(300),
        cold_start_seconds=24,
        history=(Scaled(at=iso(300), before=2, after=3, reason="inflight 22/8"),),
    )
    seen = card_of("chat", model(report=ServerReport(scaling=scaling)), "", Recent(), NOW).scaling
    assert seen.headline == "KEDA wants 3 pods"
    assert dict(seen.facts) == {
        "Because of": "inflight 22/8",
        "Bounds": "1 to 8",
        "Wanted for": "5 min",
        "Cold start": "about 24 s",
    }
    assert seen.history == (("2 → 3", "inflight 22/8", "5 min ago"),)


# -- all of them ---------------------------------------------------------------------------------

EVERYTHING = Filter()
MODELS = (
    model(ready=(POD,), names=("org/Chat", "gpt"), task="TextGeneration"),
    model("vectors", ready=(POD,), task="Embeddings"),
    model("pictures", ready=(POD,), task="ImageClassification"),
    asleep(key=ServerKey("night", "owl"), names=("owl",)),
    model("broken", report=ServerReport(wanted=1, diagnosis=DIAGNOSIS)),
)


def seen_by(may_use=lambda _: True, wanted=EVERYTHING, models=MODELS):
    sight = Sight(
        directory=Directory.of(models),
        stage=lambda one: one.state,
        recent=lambda _: Recent(per_second=2, in_flight=1),
        now=NOW,
    )
    return overview_of(sight, Looker(may_use=may_use), wanted)


def test_models_are_counted_by_state():
    seen = seen_by()
    assert {one.label: one.count for one in seen.totals} == {
        "All": 5,
        "Ready": 3,
        "Starting": 0,
        "Asleep": 1,
        "Failed": 1,
    }
    assert (seen.per_second, seen.in_flight) == ("10", "5")


def test_of_models_that_may_not_be_used_nothing_is_told():
    seen = seen_by(may_use=lambda one: one.key.namespace == "night")
    assert [card.name for card in seen.cards] == ["owl"]
    assert [choice.name for choice in seen.choices] == ["owl"]
    assert seen.totals[0].count == 1
    assert seen.per_second == "2.0"


def test_the_playground_has_what_can_be_played_with():
    assert {one.name: one.play for one in seen_by().choices} == {
        "org/Chat": "chat",
        "vectors": "embed",
        "owl": "chat",
        "broken": "chat",
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["broken", "org/Chat", "pictures", "vectors", "owl"]),
        ("q=CHAT", ["org/Chat"]),
        ("q=gpt", ["org/Chat"]),
        ("q=night+owl", ["owl"]),
        ("q=night+chat", []),
        ("state=ready&q=models%2F", ["org/Chat", "pictures", "vectors"]),
        ("state=failed", ["broken"]),
        ("state=nonsense", ["broken", "org/Chat", "pictures", "vectors", "owl"]),
        ("q=" + "x" * 5000, []),
    ],
)
def test_models_are_found_by_words_and_by_state(query, names):
    seen = seen_by(wanted=Filter.of(query))
    assert [card.name for card in seen.cards] == names
    assert bool(seen.notice) is not bool(names)
    assert seen.totals[0].count == len(MODELS)


def test_of_very_many_models_only_the_first_are_shown():
    many = [model(f"m{number:03}") for number in range(overview.MOST_CARDS + 7)]
    seen = seen_by(models=many)
    assert len(seen.cards) == overview.MOST_CARDS
    assert seen.notice == "50 of 57 models are shown; search for others."
    assert len(seen.choices) == 57


def test_a_cluster_without_models_says_so():
    assert seen_by(models=()).notice.startswith("There is no model")
