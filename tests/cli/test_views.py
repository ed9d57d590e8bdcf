"""What is shown, as text: golden files in `golden/`; UPDATE_GOLDEN=1 writes them anew."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelserver_cli.display.history_view import history_lines
from modelserver_cli.display.plan_view import plan_lines
from modelserver_cli.display.status_view import status_lines
from modelserver_cli.reading.forecast import World as Known
from modelserver_cli.reading.forecast import forecast
from modelserver_cli.reading.history import history_of
from modelserver_cli.reading.picture import picture_of
from modelserver_operator.apis.v1alpha1 import parse_status
from modelserver_operator.plan.values import ChildKey
from support.planning import CONFIG, NOW, World, a_manifest

GOLDEN = Path(__file__).parent / "golden"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
CANARY = {
    "rollout": {
        "steps": [{"weightPercent": 5, "holdSeconds": 120}, {"weightPercent": 100}],
        "shadow": {"percent": 10},
        "preflight": {"goldenSet": {"configMapRef": {"name": "golden", "key": "cases"}}},
    }
}


def assert_golden(name: str, lines: Any) -> None:
    text = "\n".join(str(line).rstrip() for line in lines) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"UPDATE_GOLDEN=1 writes {path} anew"


class Kept:
    """A server that serves a first revision and knows a second: by the operator's own planner."""

    def __init__(self) -> None:
        self.world = World(a_manifest({"replicas": 3}))
        self.first = self.world.settle().target_revision
        self.world.make_all_ready()
        self.world.settle()
        self.world.change(model={"uri": "hf://org/model", "revision": OTHER_COMMIT})
        self.second = self.world.settle().target_revision
        self.world.make_ready(self.second, 1)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [child for key, child in self.world.children.items() if key.kind == kind]

    def server(self, status: dict[str, Any]) -> dict[str, Any]:
        manifest = copy.deepcopy(self.world.manifest)
        manifest["status"] = {**BASE, "servingRevision": self.first, **status}
        return manifest


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


BASE = {
    "observedGeneration": 2,
    "url": "http://chat.models.svc/v1",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Available",
            "message": "3 of 3 pods are ready",
            "lastTransitionTime": "2026-11-21T11:00:00Z",
        }
    ],
}


def a_run(kept: Kept, **more: Any) -> dict[str, Any]:
    return {
        "id": f"2-{kept.second}",
        "from": kept.first,
        "to": kept.second,
        "strategy": "Canary",
        "startTime": "2026-11-21T11:55:50Z",
        "spec": CANARY["rollout"],
        **more,
    }


def analyzing(kept: Kept) -> dict[str, Any]:
    run = a_run(
        kept,
        phase="Analyzing",
        message="step 1 of 2 is held",
        phaseSince="2026-11-21T11:59:19Z",
        stepEnteredAt="2026-11-21T11:59:19Z",
        weights={
            "intended": 5,
            "confirmed": 5,
            "confirmedAt": "2026-11-21T11:59:19Z",
            "observedPercent": "5.1",
        },
        preflight={"passed": 9, "failed": 1, "message": "capital: expected 'Paris', got 'Rome'"},
        gates=[
            {
                "name": "errors",
                "outcome": "Undecided",
                "requests": 600,
                "bad": 6,
                "stableRequests": 5400,
                "stableBad": 10,
                "message": "5.4 times as often, e = 9.9 of 300; sees 3 times from 1851 requests",
            },
            {"name": "latency", "outcome": "Passing", "requests": 600, "bad": 31},
        ],
        comparison=[
            {"revision": kept.first, "requests": 5400, "errorsPercent": "0.19"},
            {
                "revision": kept.second,
                "requests": 600,
                "errorsPercent": "1.00",
                "slowPercent": "5.17",
            },
        ],
        lastDecision={"at": "2026-11-21T11:59:48Z", "verdict": "Continue", "message": "no gate"},
    )
    return {"rollout": run, "targetRevision": kept.second}


def holding(kept: Kept) -> dict[str, Any]:
    since = "2026-11-21T11:58:00Z"
    run = a_run(
        kept,
        phase="Shadowing",
        weights={"intended": 0, "confirmed": 0, "confirmedAt": since},
        mirrorPercent=10,
        holding={"reason": "TooFewRequests", "message": "12 of 50 pairs", "since": since},
        paused={"by": "command", "since": since},
    )
    command = {"token": f"pause/{kept.second}/1", "result": "Done", "message": "paused"}
    return {"rollout": run, "lastCommand": command}


def rolled_back(kept: Kept) -> dict[str, Any]:
    evidence = "new 12/600, stable 10/5400, e = 17984"
    run = a_run(
        kept,
        phase="RolledBack",
        stepIndex=1,
        reason="ErrorRate",
        evidence=evidence,
        message=f"revision {kept.first} serves",
    )
    failed = {"revision": kept.second, "reason": "ErrorRate", "at": "2026-11-21T11:59:00Z"}
    return {"rollout": run, "failedRevisions": [{**failed, "evidence": evidence}]}


def in_trouble(_: Kept) -> dict[str, Any]:
    ready = {**BASE["conditions"][0], "status": "False", "reason": "ImagePull"}
    diagnosis = {"code": "ImagePull", "message": "It cannot be pulled", "hint": "Look at its name"}
    return {"conditions": [ready], "diagnosis": diagnosis, "observedGeneration": 1}


def tried(kept: Kept) -> dict[str, Any]:
    running = {
        "name": "beta",
        "revision": kept.second,
        "phase": "Running",
        "since": "2026-11-21T11:50:00Z",
        "replicas": 1,
        "readyReplicas": 1,
        "answered": {
            "requests": 600,
            "errors": 6,
            "errorsPercent": "1",
            "p50Milliseconds": 80,
            "p90Milliseconds": 240,
        },
        "stable": {
            "requests": 5400,
            "errors": 10,
            "errorsPercent": "0.185",
            "p50Milliseconds": 120,
            "p90Milliseconds": 310,
        },
    }
    waiting = {
        "name": "old",
        "phase": "Waiting",
        "reason": "UnknownRevision",
        "message": "revision 00000000 must be one that is kept in the history, and is not",
    }
    return {"experiments": [running, waiting]}


def asleep(_kept: Kept) -> dict[str, Any]:
    scaling = {
        "engine": "Operator",
        "desired": 0,
        "reason": "Idle",
        "since": "2026-11-21T11:58:00Z",
        "maxReplicas": 4,
        "zero": {"phase": "Cold", "since": "2026-11-21T11:58:00Z", "reason": "Idle"},
        "coldStartSeconds": 14,
        "holderPort": 20000,
        "history": [
            {"at": "2026-11-21T11:40:00Z", "from": 1, "to": 3, "reason": "inflight 24/8"},
            {"at": "2026-11-21T11:47:00Z", "from": 3, "to": 1, "reason": "inflight 2/8"},
            {"at": "2026-11-21T11:58:00Z", "from": 1, "to": 0, "reason": "Idle"},
        ],
    }
    condition = {
        "type": "Scaling",
        "status": "False",
        "reason": "KEDAMissing",
        "message": "Spec.autoscaling.engine is KEDA, but the cluster has no ScaledObject.",
        "lastTransitionTime": "2026-11-21T11:00:00Z",
    }
    return {"scaling": scaling, "conditions": [*BASE["conditions"], condition]}


STORIES = {
    "status_asleep": asleep,
    "status_experiments": tried,
    "status_analyzing": analyzing,
    "status_holding": holding,
    "status_rolled_back": rolled_back,
    "status_in_trouble": in_trouble,
    "status_at_rest": lambda _: {},
}


def picture(kept: Kept, story: str):
    records, deployments = kept.of_kind("ControllerRevision"), kept.of_kind("Deployment")
    return picture_of(kept.server(STORIES[story](kept)), records, deployments, NOW)


@pytest.mark.parametrize("story", STORIES)
def test_status(kept, story):
    assert_golden(story, status_lines(picture(kept, story)))


def test_a_terminal_without_unicode_gets_ascii(kept):
    lines = status_lines(picture(kept, "status_analyzing"), ascii_only=True)
    assert all(str(line).isascii() for line in lines)


def test_the_picture_as_json_has_the_same(kept):
    known = json.loads(json.dumps(picture(kept, "status_analyzing").as_json()))
    assert [one["weightPercent"] for one in known["revisions"]] == [5, 95]
    assert (known["run"]["step"], known["run"]["nextStepSeconds"]) == (1, 79.0)
    assert known["run"]["gates"][0]["stableRequests"] == 5400


def test_nobody_has_looked_yet():
    fresh = a_manifest()
    shown = picture_of(fresh, [], [], NOW)
    assert (shown.ready, shown.revisions, shown.run) == ("Unknown", (), None)
    assert "no operator has looked yet" in "\n".join(map(str, status_lines(shown)))


@pytest.mark.parametrize("story", ["status_analyzing", "status_rolled_back"])
def test_history(kept, story):
    status = parse_status(kept.server(STORIES[story](kept)))
    entries = history_of(kept.of_kind("ControllerRevision"), status)
    assert_golden(story.replace("status", "history"), history_lines(entries))


def known(world: World, **more: Any) -> Known:
    return Known(observed=world.observe(), config=CONFIG, now=NOW, **more)


def settled(spec: dict[str, Any]) -> World:
    world = World(a_manifest(spec))
    world.settle()
    world.make_all_ready()
    world.settle()
    return world


def wanted(world: World, **spec: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(world.manifest)
    manifest["spec"] |= spec
    return manifest


OTHER_MODEL = {"uri": "hf://org/model", "revision": OTHER_COMMIT}
UNPINNED = {"uri": "hf://org/model", "revision": "main"}
RESOURCES = {"requests": {"cpu": "2", "memory": "4Gi"}}
CHANGES = {
    "plan_nothing": {},
    "plan_replicas": {"replicas": 5},
    "plan_canary": {"model": OTHER_MODEL, **CANARY},
    "plan_rolling": {"model": OTHER_MODEL, "rollout": {"strategy": "Rolling"}},
    "plan_shift": {
        "model": OTHER_MODEL,
        "rollout": {"strategy": "Canary", "capacityPolicy": "Shift"},
    },
    "plan_hold_and_swap": {"model": OTHER_MODEL, "rollout": {"strategy": "HoldAndSwap"}},
    "plan_unpinned": {"model": UNPINNED},
    "plan_istio_missing": {"model": OTHER_MODEL, **CANARY, "traffic": {"router": "Istio"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_plan(change):
    world = settled({"replicas": 2, "resources": RESOURCES})
    seen = known(world, golden_set=False if "rollout" in CHANGES[change] else None)
    assert_golden(
        change, plan_lines(forecast(world.manifest, wanted(world, **CHANGES[change]), seen))
    )


def test_plan_of_a_new_server():
    world = World(a_manifest())
    one = forecast(None, world.manifest, known(world, notes=("settings are assumed",)))
    assert_golden("plan_new", plan_lines(one))


def test_what_a_plan_says_is_what_the_operator_then_does():
    world = settled({"replicas": 2})
    after = wanted(world, replicas=3)
    foretold = forecast(world.manifest, after, known(world)).children
    world.manifest = after
    done = world.step()
    assert {(one.kind, one.name) for one in foretold} == {
        (one.manifest["kind"], one.manifest["metadata"]["name"]) for one in done.writes
    }


def test_a_revision_that_failed_is_not_tried_again():
    world = settled({"replicas": 2})
    changed = wanted(world, model=OTHER_MODEL, **CANARY)
    target = forecast(world.manifest, changed, known(world)).target
    failed = {"revision": target, "reason": "ErrorRate", "at": "2026-11-21T11:59:00Z"}
    world.manifest["status"]["failedRevisions"] = [failed]
    again = forecast(world.manifest, changed, known(world))
    assert again.restarts is False
    assert "is not tried again without `modelserver retry chat`" in again.pods


def test_somebody_elses_object_is_named():
    world = World(a_manifest())
    world.strangers[ChildKey("Service", "chat")] = {"metadata": {"name": "chat"}}
    [problem] = forecast(None, world.manifest, known(world)).problems
    assert problem.startswith("Service chat exists and belongs to somebody else")


def test_a_long_value_is_cut_on_the_screen_only():
    world = settled({})
    changed = wanted(world, model={**UNPINNED, "servedName": "x" * 63})
    one = forecast(world.manifest, changed, known(world))
    assert any(len(str(field.after)) == 63 for field in one.fields)
    assert all(len(str(line)) < 120 for line in plan_lines(replace(one, pods="", children=())))
