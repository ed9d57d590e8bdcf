"""A model that sleeps and is woken, by real requests through a real gateway: none is lost."""

import json
import time
from contextlib import contextmanager

import httpx
import pytest

from devcluster.demo import install
from e2e.rollout_scenarios import CANARY
from e2e.sleeping import PATIENCE, many, require_all_answered
from support.access import bearer
from support.marked_traffic import marked_traffic
from support.waiting import wait_until

pytestmark = [pytest.mark.zero, pytest.mark.timeout(1800), pytest.mark.usefixtures("gateway")]


# -- there and back --------------------------------------------------------------------------------


def test_a_model_sleeps_wakes_and_sleeps_again_and_every_request_is_answered(sleeper, record):
    sleepy = sleeper("sleepy")
    sleepy.until_asleep()
    began = time.monotonic()
    with marked_traffic(sleepy.url, sleepy.name, 50) as traffic:
        traffic.rate = 5
        traffic.wait_for_answers(1, timeout=PATIENCE)
        record("zero_first_answer_seconds", round(time.monotonic() - began, 2))
        sleepy.until_phase("Warm")
        traffic.wait_for_answers(25, timeout=PATIENCE)
    sleepy.until_asleep()
    assert traffic.failures() == []
    assert traffic.mistaken() == []
    assert traffic.lost() == set()


def test_requests_at_the_moment_when_it_falls_asleep_are_answered(sleeper):
    """Each comes when it may be about to go: some before, some within, some after."""
    sleepy = sleeper("drowsy")
    phases = set()
    for number in range(4):
        if number:
            sleepy.until_phase("Standby", "Cold")
        phases.add(sleepy.phase)
        status, headers, text = sleepy.ask(f"edge-{number}")
        assert status == 200, text
        assert headers["x-request-id"] == f"edge-{number}"
    assert phases & {"Standby", "Cold"}


def test_two_hundred_requests_at_once_at_a_cold_model_are_all_answered(sleeper, record):
    sleepy = sleeper("burst")
    sleepy.until_asleep()
    began = time.monotonic()
    with many(200) as pool:
        require_all_answered(sleepy.ask_many(pool, 200, "burst"))
    record("zero_burst_seconds", round(time.monotonic() - began, 2))
    assert sleepy.status["scaling"]["zero"]["reason"] in {"Request", "Ready"}


def test_a_canary_of_a_server_that_sleeps_waits_for_requests_and_loses_none(sleeper):
    """There is no evidence while nobody asks."""
    sleepy = sleeper("canary", rollout=CANARY)
    sleepy.until_asleep()
    before = sleepy.status["servingRevision"]
    sleepy.change_environment(MARKER="second")
    wait_until(
        lambda: sleepy.status.get("rollout", {}).get("phase") == "Preparing",
        timeout=PATIENCE,
        what="a run that prepares",
    )
    assert not sleepy.pods()
    with marked_traffic(sleepy.url, sleepy.name, 50) as traffic:
        wait_until(
            lambda: sleepy.status["rollout"]["phase"] == "Succeeded",
            timeout=2 * PATIENCE,
            what="the run has succeeded",
        )
    assert sleepy.status["servingRevision"] != before
    assert traffic.failures() == []
    assert traffic.mistaken() == []
    assert traffic.lost() == set()


def test_a_change_while_it_sleeps_wakes_nobody_and_is_what_the_next_request_gets(sleeper):
    sleepy = sleeper("changed")
    sleepy.until_asleep()
    sleepy.change_asleep(VOICE="other")
    status, headers, text = sleepy.ask("changed")
    assert status == 200, text
    assert headers["x-model-revision"] == sleepy.status["servingRevision"]


# -- when something is not there -------------------------------------------------------------------


@pytest.fixture
def scaled_operator(kubectl, operator):
    def scale(replicas):
        arguments = ("scale", "deployment/modelserver-operator", f"--replicas={replicas}")
        kubectl.run("-n", operator, *arguments)
        kubectl.run(
            "-n", operator, "rollout", "status", "deployment/modelserver-operator", "--timeout=300s"
        )

    yield scale
    scale(2)


def test_a_request_wakes_the_model_while_no_operator_runs(sleeper, scaled_operator):
    sleepy = sleeper("alone")
    sleepy.until_asleep()
    scaled_operator(0)
    with many(20) as pool:
        require_all_answered(sleepy.ask_many(pool, 20, "alone"))
    assert len(sleepy.pods()) == 1
    scaled_operator(2)
    sleepy.until_phase("Warm", "Standby")  # it learns what has happened
    sleepy.until_asleep()


@pytest.fixture
def node(kubectl):
    """On which new pods may be kept from starting."""
    [node] = kubectl.get("nodes")["items"]
    name = node["metadata"]["name"]
    yield name
    kubectl.run("uncordon", name)


def held_by(kubectl, server):
    """Requests that each gateway's pod holds for a server."""
    pods = kubectl.get(
        "-n", install.NAMESPACE, "pods", "-l", f"app.kubernetes.io/name={install.GATEWAY}"
    )
    found = {}
    for pod in pods["items"]:
        if pod["metadata"].get("deletionTimestamp") or not pod["status"].get("podIP"):
            continue
        text = httpx.get(f"http://{pod['status']['podIP']}:9090/metrics", timeout=30).text
        found[pod["metadata"]["name"]] = sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("modelserver_gateway_held_requests{")
            and f'server="{server}"' in line
        )
    return found


HELD = 40


def until_held(kubectl, sleepy):
    wait_until(
        lambda: sum(held_by(kubectl, sleepy.name).values()) == HELD,
        timeout=PATIENCE,
        what=f"{HELD} requests are held",
    )


@contextmanager
def all_held(kubectl, sleepy, node):
    """Requests that are held for as long as the test wants, and how many each gateway holds."""
    sleepy.until_asleep()
    kubectl.run("cordon", node)
    with many(HELD) as pool:
        asked = sleepy.ask_many(pool, HELD, sleepy.name)
        until_held(kubectl, sleepy)
        yield asked, held_by(kubectl, sleepy.name)


def test_when_a_gateway_is_killed_its_clients_try_again_and_others_notice_nothing(
    kubectl, sleeper, node
):
    sleepy = sleeper("killed")
    with all_held(kubectl, sleepy, node) as (asked, held):
        victim = max(held, key=held.get)
        arguments = ("delete", "pod", victim, "--force", "--grace-period=0")
        kubectl.run("-n", install.NAMESPACE, *arguments)
        kubectl.run("uncordon", node)
        outcomes = {mark: future.result() for mark, future in asked.items()}
    assert {status for status, *_ in outcomes.values()} <= {0, 200, 503}
    others = [mark for mark, (status, *_) in outcomes.items() if status == 200]
    assert len(others) >= HELD - held[victim]
    for mark in outcomes.keys() - set(others):
        status, _, text = sleepy.ask(f"{mark}-again")
        assert status == 200, text


def test_a_gateway_that_is_told_to_end_answers_whom_it_holds(kubectl, sleeper, node):
    sleepy = sleeper("drained")
    with all_held(kubectl, sleepy, node) as (asked, held):
        victim = max(held, key=held.get)
        assert held[victim] > 0
        kubectl.run("-n", install.NAMESPACE, "delete", "pod", victim, "--wait=false")
        wait_until(
            lambda: victim not in held_by(kubectl, sleepy.name),
            timeout=PATIENCE,
            what="it has been told",
        )
        kubectl.run("uncordon", node)
        require_all_answered(asked)


def test_a_rolling_update_of_the_gateway_loses_nothing(
    kubectl, sleeper, gateway, unlimited_key, record
):
    """Neither what it passes on at its door nor what it holds for a model that loads."""
    awake, held = sleeper("rolled-over"), sleeper("held-over")
    held.until_asleep()
    held.change_asleep(LOADING="1")
    door, headers = f"{gateway}/v1/chat/completions", bearer(unlimited_key[0])
    with marked_traffic(door, awake.name, 50, headers=headers) as traffic, many(HELD) as pool:
        traffic.rate = 10
        traffic.wait_for_answers(25, timeout=PATIENCE)
        asked = held.ask_many(pool, HELD, held.name)
        until_held(kubectl, held)
        before = set(held_by(kubectl, held.name))
        for what in (("restart",), ("status", "--timeout=480s")):
            verb, *more = what
            arguments = ("rollout", verb, f"deployment/{install.GATEWAY}", *more)
            kubectl.run("-n", install.NAMESPACE, *arguments)
        traffic.wait_for_answers(50, timeout=PATIENCE)
        assert not before & set(held_by(kubectl, held.name)), "they have been told to end"
        assert not any(future.done() for future in asked.values())
        held.has_loaded()
        require_all_answered(asked)
        traffic.wait_for_answers(25, timeout=PATIENCE)
    record("requests", len(traffic.answers))
    assert traffic.failures() == []
    assert traffic.mistaken() == []
    assert traffic.lost() == set()


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_is_told_how_far_its_model_has_come_and_then_gets_its_words(
    kubectl, sleeper, gateway, gateway_key, node
):
    sleepy = sleeper("streamed")
    sleepy.until_asleep()
    sleepy.change_asleep(LOADING="1")
    kubectl.run("cordon", node)
    body = {
        "model": sleepy.name,
        "messages": [{"role": "user", "content": "streamed-1"}],
        "stream": True,
    }
    headers, door = bearer(gateway_key[0]), f"{gateway}/v1/chat/completions"
    with httpx.stream("POST", door, json=body, headers=headers, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-model-state"] == "cold"
        lines = answer.iter_lines()
        until_said(lines, "scheduling")
        kubectl.run("uncordon", node)
        until_said(lines, "loading")
        sleepy.has_loaded()
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert [delta["content"] for delta in deltas] == ["same ", "streamed-1 "]


def until_said(lines, stage):
    """In a comment, and before any word of the answer."""
    for line in lines:
        assert not line.startswith("data:"), line
        if line == f": {stage}":
            return
    pytest.fail(f"the stream ended before {stage!r}")


# -- the door --------------------------------------------------------------------------------------


def test_at_the_front_door_only_who_has_a_key_wakes_a_model(sleeper, gateway, gateway_key):
    sleepy = sleeper("locked")
    sleepy.until_asleep()
    door = f"{gateway}/v1/chat/completions"
    for wrong in ({}, {"authorization": "Bearer hf_" + "z" * 43}):
        status, _, text = sleepy.ask("wrong", door, **wrong)
        assert status == 401, text
    assert not sleepy.pods()
    assert sleepy.phase == "Cold"
    status, headers, text = sleepy.ask("right", door, authorization=f"Bearer {gateway_key[0]}")
    assert status == 200, text
    assert headers["x-model-state"] in {"cold", "scheduling"}
    assert headers["x-content-type-options"] == "nosniff"
    assert int(headers["x-ratelimit-limit-requests"]) in {50, 100}  # its part, once it is known
