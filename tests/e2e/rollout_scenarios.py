"""Rollouts as they are played on a real cluster, each under marked traffic of its own.

A scenario gets a Play, and returns when what it plays is over and its pods are gone. Tests and
`python -m bench.rollout_traffic` play the same ones.
"""

import json
import os
import signal

from e2e.rollout_play import PATIENCE
from e2e.stage import operator_pids

MOST_HELD = 1200  # below what two routers hold, also where one gets more than the other
ANALYSIS = {"intervalSeconds": 2, "minSamples": 10}
STEPS = [
    {"weightPercent": 10, "holdSeconds": 8},
    {"weightPercent": 50, "holdSeconds": 4},
    {"weightPercent": 100, "holdSeconds": 2},
]
HELD = [{"weightPercent": 20, "holdSeconds": 3600}, {"weightPercent": 100}]
CANARY = {"strategy": "Canary", "steps": STEPS, "analysis": ANALYSIS, "bakeSeconds": 2}
# Stable answers within 50 ms and some; a machine that is busy may take longer now and then.
SLOW = {**ANALYSIS, "latency": {"slowAboveMilliseconds": 100}}


def healthy(play, *, rollout=CANARY, most_at_once=50):
    with play.on_stage(rollout, most_at_once=most_at_once):
        play.change(MARKER="second")
        play.until_phase("Succeeded")
        play.until_gone(play.old)


def of_real_runtime(play):
    """As healthy as the stand-in, with a model that generates."""
    healthy(play, most_at_once=30)  # it generates 32 at a time; beyond it some would wait


def failing(play):
    with play.on_stage({**CANARY, "steps": HELD}):
        play.change(FAIL_EVERY="10")
        play.until_phase("RolledBack")
        play.until_gone(play.new)


def slow(play):
    with play.on_stage({**CANARY, "steps": HELD, "analysis": SLOW}):
        play.change(ANSWER_MILLISECONDS="150")
        play.until_phase("RolledBack")
        play.until_gone(play.new)


def differing(play):
    shadow = {"percent": 100, "holdSeconds": 3600, "minPairs": 20}
    with play.on_stage({**CANARY, "shadow": shadow}):
        play.change(VOICE="other")
        play.until_phase("RolledBack")
        play.until_gone(play.new)


def swapped(play):
    with play.on_stage({"strategy": "HoldAndSwap"}, most_at_once=MOST_HELD):
        play.change(MARKER="second")
        play.until_phase("Succeeded")
        play.traffic.wait_for_answers(25, revision=play.new)


def aborted(play):
    with play.on_stage({"strategy": "BlueGreen", "analysis": ANALYSIS, "bakeSeconds": 3600}):
        play.change(MARKER="second")
        play.until_phase("Baking")
        play.traffic.wait_for_answers(25, revision=play.new)
        play.command("abort")
        play.until_phase("RolledBack")
        play.until_gone(play.new)


def bereft(play, kubectl):
    """The operator is killed while the second step is held, and comes back."""
    with play.on_stage(CANARY):
        play.change(MARKER="second")
        play.until(lambda one: one.run.get("stepIndex") == 1, "the second step")
        killed = operator_pids(kubectl)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        play.until_phase("Succeeded")
        play.until_gone(play.old)
        return killed


def watched(play, live_view):
    """Somebody looks on; returns the exit code of the view and what it has shown."""
    with play.on_stage(CANARY), live_view(play.name) as screen:
        screen.wait_for(f"/{play.name}", timeout=PATIENCE)
        play.change(MARKER="second")
        for shown in ("weight: 10 %", "[50 %]", "evidence", "last rollout", "Succeeded"):
            screen.wait_for(shown, timeout=PATIENCE)
        play.until_phase("Succeeded")
        return screen.interrupt(timeout=PATIENCE), screen.written


# -- golden sets -----------------------------------------------------------------------------------


def examined(play):
    """By questions whose answers it knows."""
    healthy(play, rollout=with_golden_set(play, {"greets": "same hello", "parts": "same goodbye"}))


def examined_in_vain(play):
    """One answer is not what is expected."""
    rollout = with_golden_set(play, {"greets": "same hello", "parts": "another goodbye"})
    with play.on_stage(rollout):
        play.change(MARKER="second")
        play.until_phase("RolledBack")
        play.until_gone(play.new)


def with_golden_set(play, expected):
    """A canary that is asked for these texts; the last word of each is the question."""
    name = f"{play.name}-golden-set"
    lines = "\n".join(json.dumps(a_case(one, text)) for one, text in expected.items())
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"cases.jsonl": lines}}  # fmt: skip
    play.servers.run("apply", "-f", "-", stdin=json.dumps(manifest))
    golden_set = {"configMapRef": {"name": name, "key": "cases.jsonl"}}
    return {**CANARY, "preflight": {"goldenSet": golden_set}}


def a_case(name, text):
    question = {"role": "user", "content": text.split()[-1]}
    return {"name": name, "request": {"messages": [question]}, "expect": {"exact": text}}
