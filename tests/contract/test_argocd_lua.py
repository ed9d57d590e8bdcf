"""Argo CD's health and actions of a ModelServer, and that kstatus and `kubectl wait` agree.

The scripts of `manifests/argocd` run in a real Lua; most statuses are what the operator's own core
says, so that the two cannot drift apart.
"""

import copy
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.apis.crd import NEVER_SEEN
from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.rollout_status import CommandResult, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.commands import commanded
from modelserver_operator.rollout.reasons import PausedBy, Waiting
from modelserver_operator.rollout.sight import Sight, Wish
from support.argocd_lua import (
    COMMAND,
    actions_of,
    changed_by,
    health_of,
    possible_actions,
    scripts,
)
from support.life import (
    BROKEN,
    broken,
    in_conflict,
    new,
    ready,
    replica_lost,
    rolled,
    rolling,
    scaled_to_zero,
    settling,
    suspended,
)
from support.world import World, pinned

STABLE, CANARY = "a1b2c3d4", "d4e5f6a7"
NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)


# -- statuses of the operator's core -------------------------------------------------------------


def rolling_to_a_broken_revision():
    return rolling(BROKEN)


def changed_and_not_looked_at():
    world = ready()
    world.change(replicas=3)
    return world


def never_looked_at():
    return World(pinned(), status=dict(NEVER_SEEN))


# health, kstatus, and what the message has to say
LIFE = {
    never_looked_at: ("Progressing", "InProgress", "not looked at"),
    changed_and_not_looked_at: ("Progressing", "InProgress", "not looked at"),
    new: ("Progressing", "InProgress", "0 of 1 replica ready"),
    ready: ("Healthy", "Current", "1 of 1 replica ready"),
    broken: ("Degraded", "InProgress", "--no is no flag"),
    rolling: ("Progressing", "InProgress", "starts"),
    rolling_to_a_broken_revision: ("Degraded", "InProgress", "--no is no flag"),
    settling: ("Progressing", "Current", "about to go"),
    rolled: ("Healthy", "Current", "1 of 1 replica ready"),
    scaled_to_zero: ("Healthy", "Current", "no pods are wanted"),
    suspended: ("Suspended", "InProgress", "spec.suspend is true"),
    replica_lost: ("Degraded", "InProgress", "1 of 2 replicas ready"),
    in_conflict: ("Degraded", "InProgress", "chat"),
}


@pytest.mark.parametrize("state", LIFE, ids=lambda state: state.__name__)
def test_the_health_is_what_the_operator_says(state):
    health, _, message = LIFE[state]
    found = health_of(state().manifest)
    assert found[0] == health
    assert message in found[1]


@pytest.mark.parametrize("state", LIFE, ids=lambda state: state.__name__)
def test_kstatus_sees_it_as_documented(state):
    assert kstatus_of(state().manifest) == LIFE[state][1]


def test_what_is_wrong_comes_with_what_to_do():
    world = broken()
    assert world.diagnosis["hint"] in health_of(world.manifest)[1]


def test_what_is_being_deleted_is_progressing():
    manifest = ready().manifest
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert health_of(manifest) == ("Progressing", "being deleted")
    assert kstatus_of(manifest) == "Terminating"


# -- statuses of a rollout by steps --------------------------------------------------------------


_BAD = ("Degraded", "Stalled")


def manifest_of(rollout, *, progress="", ready="Unknown", degraded="", **status):
    """As the operator writes it while one revision takes over from another."""
    going = {
        "from": STABLE,
        "to": CANARY,
        "strategy": "Canary",
        "startTime": "2026-01-01T00:00:00Z",
    }
    reason = progress or rollout.get("phase", "Complete")
    is_progressing = reason not in {"Complete", "RolledBack"}
    conditions = [
        condition("Ready", ready, "RollingOut", f"revision {STABLE} serves"),
        condition("Progressing", str(is_progressing), reason, f"{reason} with 5 %"),
        *[condition(kind, "True", "RolledBack", degraded) for kind in _BAD if degraded],
    ]
    found = {
        "observedGeneration": 2,
        "servingRevision": STABLE,
        "targetRevision": CANARY,
        "conditions": conditions,
        **({"rollout": going | rollout} if rollout else {}),
        **status,
    }
    ModelServerStatus.model_validate_json(json.dumps(found))  # only what the operator may write
    metadata = {"name": "chat", "namespace": "ns", "generation": 2, "resourceVersion": "4711"}
    spec = {"model": {"uri": "hf://example/tiny"}, "podTemplate": {}, "aliases": []}
    return {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": metadata,
        "spec": spec,
        "status": found,
    }


def condition(kind, status, reason, message):
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 2,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def paused(by):
    rollout = {"phase": "Analyzing", "paused": {"by": by, "since": "2026-01-01T00:00:00Z"}}
    return manifest_of(rollout, progress="Paused")


def holding(phase, reason):
    waits = {"reason": reason, "message": "waits", "since": "2026-01-01T00:00:00Z"}
    return manifest_of({"phase": phase, "holding": waits}, progress="Holding")


NOTHING = manifest_of({}, ready="True")
ANALYZING = manifest_of({"phase": "Analyzing"})
HOLDING = holding("Analyzing", Waiting.TOO_FEW_REQUESTS)
TO_BE_APPROVED = holding("Stepping", Waiting.AWAITING_APPROVAL)
PAUSED = paused("command")
PAUSED_IN_SPEC = paused("spec")
PROMOTING = manifest_of({"phase": "Promoting"})
BAKING = manifest_of({"phase": "Baking"}, ready="True", servingRevision=CANARY)
ROLLING_BACK = manifest_of({"phase": "RollingBack"})
ROLLED_BACK = manifest_of(
    {"phase": "RolledBack"}, ready="True", degraded="37 of 600 requests failed"
)
SENT_BACK = manifest_of({}, ready="True", rolledBackTo={"revision": STABLE, "insteadOf": CANARY})

ROLLOUTS = {
    "nothing": (NOTHING, "Healthy", "serves"),
    "succeeded": (
        manifest_of({"phase": "Succeeded"}, progress="Complete", ready="True"),
        "Healthy",
        "serves",
    ),
    "analyzing": (ANALYZING, "Progressing", "Analyzing with 5 %"),
    "holding": (HOLDING, "Progressing", "Holding"),
    "to be approved": (TO_BE_APPROVED, "Suspended", "Holding"),
    "paused by a command": (PAUSED, "Suspended", "Paused"),
    "paused in the spec": (PAUSED_IN_SPEC, "Suspended", "Paused"),
    "paused by a deadline": (paused("deadline"), "Suspended", "Paused"),
    "paused by a failure": (paused("failure"), "Degraded", "Paused"),
    "promoting": (PROMOTING, "Progressing", "Promoting"),
    "baking": (BAKING, "Progressing", "Baking"),
    "going back": (ROLLING_BACK, "Progressing", "RollingBack"),
    "rolled back": (ROLLED_BACK, "Degraded", "37 of 600"),
    "sent back by a command": (SENT_BACK, "Suspended", f"asks for {CANARY}"),
}


@pytest.mark.parametrize("name", ROLLOUTS)
def test_the_health_of_a_rollout_says_who_has_to_act(name):
    manifest, health, message = ROLLOUTS[name]
    found = health_of(manifest)
    assert found[0] == health
    assert message in found[1]


# -- actions -------------------------------------------------------------------------------------

GOING = {"pause", "promote-step", "promote-full", "abort", "rollback"}
TRIED = [{"revision": CANARY, "reason": "ErrorRate", "at": "2026-01-01T00:00:00Z"}]
FAILED = manifest_of({"phase": "RolledBack"}, ready="True", failedRevisions=TRIED)
REVERTED = manifest_of({"phase": "RolledBack"}, ready="True")

POSSIBLE = {
    "nothing": (NOTHING, {"rollback"}),
    "preparing": (manifest_of({"phase": "Preparing"}), GOING - {"promote-step"}),
    "entering a step": (manifest_of({"phase": "Stepping"}), GOING - {"promote-step"}),
    "analyzing": (ANALYZING, GOING),
    "holding": (HOLDING, GOING),
    "to be approved": (TO_BE_APPROVED, GOING),
    "paused": (PAUSED, GOING - {"pause"} | {"resume"}),
    "paused in the spec": (PAUSED_IN_SPEC, {"pause", "abort", "rollback"}),
    "promoting": (PROMOTING, GOING - {"promote-step"}),
    "baking": (BAKING, GOING),
    "going back": (ROLLING_BACK, {"rollback"}),
    "rolled back": (FAILED, {"retry", "rollback"}),
    "reverted": (REVERTED, {"rollback"}),
}


@pytest.mark.parametrize("name", POSSIBLE)
def test_only_what_would_do_something_can_be_clicked(name):
    manifest, possible = POSSIBLE[name]
    assert possible_actions(manifest) == possible


def run_of(phase, strategy, by, reason, *, has_failed):
    since = {"since": "2026-01-01T00:00:00Z"}
    rollout = {
        "phase": phase,
        "strategy": strategy,
        **({"paused": {"by": by, **since}} if by else {}),
        **({"holding": {"reason": reason, "message": "", **since}} if reason else {}),
    }
    return manifest_of(rollout, failedRevisions=TRIED if has_failed else [])


RUNS = st.builds(
    run_of,
    st.sampled_from([phase.value for phase in RolloutPhase]),
    st.sampled_from(["Canary", "BlueGreen", "HoldAndSwap", "Rolling"]),
    st.sampled_from(["", *PausedBy]),
    st.sampled_from(["", Waiting.AWAITING_APPROVAL, Waiting.TOO_FEW_REQUESTS]),
    has_failed=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_what_can_be_clicked_the_operator_does_and_what_cannot_it_would_not(manifest):
    possible = possible_actions(manifest)
    status = ModelServerStatus.model_validate_json(json.dumps(manifest["status"]))
    for action in scripts().actions:
        changed = changed_by(action, manifest, revision=STABLE)
        after = commanded(status, Sight(now=NOW), wish(changed["metadata"]["annotations"][COMMAND]))
        if action in possible:
            assert after.last_command.result is CommandResult.DONE, after.last_command.message
        else:
            assert after.model_copy(update={"last_command": None}) == status


def wish(command):
    known = frozenset({STABLE, CANARY})
    return Wish(
        generation=2,
        target=CANARY,
        replicas=2,
        rollout=RolloutSpec(),
        command=command,
        known_revisions=known,
    )


def test_a_rolling_takeover_knows_no_commands_but_the_way_back():
    assert possible_actions(rolling().manifest) == {"rollback"}


def test_nothing_can_be_clicked_before_the_operator_has_looked():
    assert possible_actions(never_looked_at().manifest) == set()


def test_every_action_that_is_shown_exists_and_the_other_way_round():
    shown = actions_of(ANALYZING)
    assert set(shown) == set(scripts().actions)
    assert shown["rollback"]["params"] == [{"name": "revision"}]
    assert all("params" not in action for name, action in shown.items() if name != "rollback")


COMMANDS = {
    "pause": f"pause/{CANARY}",
    "resume": f"resume/{CANARY}",
    "promote-step": f"promote-step/{CANARY}",
    "promote-full": f"promote-full/{CANARY}",
    "abort": f"abort/{CANARY}",
    "retry": f"retry/{CANARY}",
    "rollback": f"rollback-to/{STABLE}",
}


@pytest.mark.parametrize("action", COMMANDS)
def test_an_action_sets_the_command_and_touches_nothing_else(action):
    before = copy.deepcopy(ANALYZING)
    changed = changed_by(action, ANALYZING, revision=STABLE)
    command = changed["metadata"]["annotations"].pop(COMMAND)
    assert command == f"{COMMANDS[action]}/argocd-4711"
    del changed["metadata"]["annotations"]
    assert changed == before


def test_an_action_keeps_other_annotations():
    manifest = copy.deepcopy(ANALYZING)
    manifest["metadata"]["annotations"] = {"team": "search", COMMAND: f"pause/{CANARY}/argocd-1"}
    annotations = changed_by("abort", manifest)["metadata"]["annotations"]
    assert annotations == {"team": "search", COMMAND: f"abort/{CANARY}/argocd-4711"}


def test_a_token_comes_again_only_for_the_same_look():
    later = copy.deepcopy(ANALYZING)
    later["metadata"]["resourceVersion"] = "4712"
    looks = [ANALYZING, ANALYZING, later]
    first, again, other = [
        changed_by("abort", one)["metadata"]["annotations"][COMMAND] for one in looks
    ]
    assert first == again != other


@pytest.mark.parametrize("action", ["pause", "resume", "promote-step", "promote-full", "abort"])
def test_an_action_without_a_rollout_says_that_there_is_none(action):
    with pytest.raises(Exception, match="there is no rollout to"):
        changed_by(action, NOTHING)


def test_retrying_needs_a_revision():
    with pytest.raises(Exception, match="there is no revision to retry"):
        changed_by("retry", never_looked_at().manifest)


def test_going_back_needs_to_know_where_to():
    with pytest.raises(Exception, match="name the revision to go back to"):
        changed_by("rollback", ANALYZING)


# -- kstatus, kubectl wait, Flux -----------------------------------------------------------------


def kstatus_of(manifest):
    """What sigs.k8s.io/cli-utils/pkg/kstatus computes of a custom resource; Flux asks it too."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions", [])}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"


KSTATUS_OF_ROLLOUTS = {
    "Current": {"nothing", "succeeded", "baking", "sent back by a command"},
    "Failed": {"rolled back"},
}


@pytest.mark.parametrize("name", ROLLOUTS)
def test_kstatus_of_a_rollout_is_as_documented(name):
    found = kstatus_of(ROLLOUTS[name][0])
    assert name in KSTATUS_OF_ROLLOUTS.get(found, {name})
    assert (found == "InProgress") == (name not in set().union(*KSTATUS_OF_ROLLOUTS.values()))


@pytest.mark.parametrize("name", ROLLOUTS)
def test_what_argo_cd_calls_healthy_is_current_for_kstatus(name):
    manifest, health, _ = ROLLOUTS[name]
    if health == "Healthy":
        assert kstatus_of(manifest) == "Current"
