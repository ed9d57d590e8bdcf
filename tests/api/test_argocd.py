"""A real Argo CD and a ModelServer: what is in Git, what it shows, and that nothing fights.

Nowhere is a difference excused (`ignoreDifferences`): once a commit is synced, the Application may
never say OutOfSync for it, whatever the operator does.
"""

from contextlib import contextmanager

import pytest

from devcluster.definitions import BundleName, definitions
from support import pod_outcomes
from support.argocd import ArgoCD
from support.argocd_application import Application, GitRepository
from support.argocd_lua import COMMAND
from support.installation import install_definitions
from support.played_traffic import Behaviour
from support.rollouts import Play, canary
from support.servers import pinned
from support.waiting import wait_until

pytestmark = [
    pytest.mark.gitops,
    pytest.mark.timeout(900),  # four programs more than other tests have, on a busy machine
    pytest.mark.usefixtures("operator", "stage"),
]

BROKEN = pod_outcomes.exiting(2, code="InvalidConfiguration", message="--no is no flag")


@pytest.fixture(scope="module")
def argocd(cluster, kube, tmp_path_factory):
    install_definitions(kube, definitions(BundleName.ARGOCD))
    with ArgoCD(cluster, kube, tmp_path_factory.mktemp("argocd")) as running:
        yield running


@pytest.fixture
def make_application(argocd, namespace, tmp_path):
    """Synced with a ModelServer that is served."""

    @contextmanager
    def make(first=None, **options):
        repository = GitRepository(tmp_path / "git")
        commit = repository.write(first or chat())
        with Application(argocd, repository, namespace, **options).followed() as followed:
            followed.wait("Healthy", commit)
            yield followed

    return make


@pytest.fixture
def application(make_application):
    with make_application() as made:
        yield made


def chat(**spec):
    """As it lies in Git: without a namespace."""
    return {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "chat"},
        "spec": pinned(**spec),
    }


def drifts(history):
    """What was Synced, and then was not any more though Git had not changed."""
    was_synced = set()
    for seen in history:
        if seen.sync == "Synced":
            was_synced.add(seen.revision)
        elif seen.revision in was_synced:
            yield seen


def new_revisions_are(stage, outcome, servers):
    """Pods of the revision that serves now stay as they are."""
    serving = servers.status("chat")["servingRevision"]
    with stage.intermission():
        stage.direct(outcome, namespace=servers.namespace)
        stage.direct(pod_outcomes.FINE, namespace=servers.namespace, revision=serving)


def test_the_children_are_in_the_tree_and_not_in_the_comparison(application, servers):
    servers.wait_settled("chat")

    def made_by_the_server():
        return sorted(
            f"{node['kind']}/{node['name']}"
            for node in application.tree()
            if any(parent["kind"] == "ModelServer" for parent in node.get("parentRefs", []))
        )

    expected = servers.child_names("chat")
    wait_until(lambda: made_by_the_server() == expected, timeout=60, what=f"{expected}")
    compared = application.get()["status"]["resources"]
    assert [(one["kind"], one["name"], one["status"]) for one in compared] == [
        ("ModelServer", "chat", "Synced")
    ]


def test_a_new_revision_is_progressing_until_it_serves_and_never_out_of_sync(
    application, servers, stage
):
    new_revisions_are(stage, pod_outcomes.starting(stage.progress_address), servers)
    commit = application.write(chat(runtime={"maxModelLength": 64}))
    began = application.wait("Progressing", commit)
    stage.clear()
    application.wait("Healthy", commit)
    assert {seen.health for seen in application.history[began:]} <= {"Progressing", "Healthy"}
    assert list(drifts(application.history)) == []
    assert application.syncs == 2  # one for each commit: it had nothing to heal


def test_a_revision_that_cannot_serve_is_degraded_and_says_why(application, servers, stage):
    new_revisions_are(stage, BROKEN, servers)
    commit = application.write(chat(runtime={"args": ["--no"]}))
    application.wait("Degraded", commit)
    health = application.node("ModelServer", "chat")["health"]
    assert "--no is no flag" in health["message"]
    assert servers.status("chat")["diagnosis"]["hint"] in health["message"]
    application.wait("Healthy", application.write(chat()))
    assert list(drifts(application.history)) == []


def test_a_suspended_server_is_suspended(application):
    application.wait("Suspended", application.write(chat(suspend=True)))
    application.wait("Healthy", application.write(chat()))
    assert list(drifts(application.history)) == []


def test_an_action_writes_a_command_that_is_no_difference(application, servers):
    serving = servers.wait_settled("chat")["status"]["servingRevision"]
    assert application.possible_actions("chat") == {"rollback"}
    before = servers.get("chat")
    application.act("rollback", "chat", revision=serving)
    written = servers.get("chat")
    expected = f"rollback-to/{serving}/argocd-{before['metadata']['resourceVersion']}"
    assert written["metadata"]["annotations"][COMMAND] == expected
    assert written["spec"] == before["spec"]
    application.compare()
    assert list(drifts(application.history)) == []
    assert application.syncs == 1


def test_an_action_that_cannot_be_done_is_refused_with_a_sentence(application, servers):
    servers.wait_settled("chat")
    assert "there is no rollout to abort" in application.refusal("abort", "chat")
    assert COMMAND not in servers.get("chat")["metadata"].get("annotations", {})


# -- rollouts by evidence --------------------------------------------------------------------------

WAYS_TO_COMPARE = {
    "three-way": {},
    "server-side-apply": {"options": ["ServerSideApply=true"]},
    "server-side-diff": {
        "annotations": {"argocd.argoproj.io/compare-options": "ServerSideDiff=true"}
    },
}

WRONG = Behaviour(error_percent=20)
HELD = canary(steps=[{"weightPercent": 20, "holdSeconds": 3600}, {"weightPercent": 100}])


def changed(rollout):
    return chat(replicas=2, rollout=rollout, runtime={"args": ["--change"]})


@pytest.fixture
def play(servers, stage):
    stage.direct(stage.traffic.outcome, namespace=servers.namespace)
    return Play(servers, stage)


@pytest.fixture
def released(make_application, play):
    """Synced with a ModelServer whose changes are rolled out by steps."""

    @contextmanager
    def make(rollout, **options):
        first = chat(replicas=2, rollout=rollout)
        with make_application(first, **options) as application:
            yield application, play.status["servingRevision"]

    return make


def new_revision(play, old):
    def other(status):
        target = status.get("targetRevision", "")
        return target if target != old else ""

    return play.until(other, "another target")


@pytest.mark.parametrize("way", WAYS_TO_COMPARE)
def test_a_whole_canary_is_progressing_then_healthy_and_never_out_of_sync(way, released, play):
    with released(canary(), **WAYS_TO_COMPARE[way]) as (application, old):
        commit = application.write(changed(canary()))
        began = application.wait("Progressing", commit)
        play.until_promoted(new_revision(play, old))
        application.wait("Healthy", commit)
        assert {seen.health for seen in application.history[began:]} <= {"Progressing", "Healthy"}
        assert list(drifts(application.history)) == []
        assert application.syncs == 2


def test_a_revision_that_is_rolled_back_is_degraded_in_sync_and_can_be_retried(
    released, play, stage
):
    with released(canary()) as (application, old):
        with stage.intermission():
            commit = application.write(changed(canary()))
            new = new_revision(play, old)
            stage.traffic.behaviours[new] = WRONG
        application.wait("Degraded", commit)
        message = application.node("ModelServer", "chat")["health"]["message"]
        assert f"{new} was rolled back (ErrorRate)" in message
        assert "requests failed" in message
        assert application.possible_actions("chat") == {"retry", "rollback"}
        stage.traffic.behaviours[new] = Behaviour()
        application.act("retry", "chat")
        application.wait("Healthy", commit)
        assert play.status["servingRevision"] == new
        assert list(drifts(application.history)) == []
        assert application.syncs == 2


def test_going_back_in_git_heals_what_was_rolled_back(released, play, stage):
    with released(canary()) as (application, old):
        with stage.intermission():
            commit = application.write(changed(canary()))
            stage.traffic.behaviours[new_revision(play, old)] = WRONG
        application.wait("Degraded", commit)
        application.wait("Healthy", application.write(chat(replicas=2, rollout=canary())))
        assert play.status["servingRevision"] == old


def test_a_rollout_is_paused_resumed_and_aborted_by_clicks(released, play):
    with released(HELD) as (application, old):
        commit = application.write(changed(HELD))
        play.until_phase("Analyzing")
        application.act("pause", "chat")
        application.wait("Suspended", commit)
        assert "resume" in application.possible_actions("chat")
        application.act("resume", "chat")
        application.wait("Progressing", commit)
        application.act("abort", "chat")
        application.wait("Degraded", commit)
        assert play.status["servingRevision"] == old
        assert list(drifts(application.history)) == []
        assert application.syncs == 2


def test_a_rollout_that_needs_approval_is_suspended_until_it_has_it(released, play):
    needs_approval = canary(approval="Manual")
    with released(needs_approval) as (application, old):
        commit = application.write(changed(needs_approval))
        application.wait("Suspended", commit)
        application.act("promote-step", "chat")
        application.wait("Healthy", commit)
        assert play.status["servingRevision"] != old


def test_going_back_by_a_click_is_suspended_until_git_changes(released, play):
    with released(canary()) as (application, old):
        commit = application.write(changed(canary()))
        play.until_promoted(new_revision(play, old))
        application.wait("Healthy", commit)
        application.act("rollback", "chat", revision=old)
        application.wait("Suspended", commit)
        assert play.status["servingRevision"] == old
        application.wait("Healthy", application.write(chat(replicas=2, rollout=canary())))
