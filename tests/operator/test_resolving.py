"""From a branch or tag to a commit, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from modelserver_operator.plan.resolving import ANSWER_PATIENCE_SECONDS, JOB_RETRY_SECONDS
from modelserver_operator.plan.values import ResolutionState
from support.planning import COMMIT, NOW, a_world

BRANCH = {"model": {"uri": "hf://org/model", "revision": "stable"}}
OTHER = "f" * 40


def job_key(world):
    return next((key for key in world.children if key.kind == "Job"), None)


def asking_world():
    world = a_world(BRANCH)
    world.settle()
    return world


def finish(world, kind):
    """The Job controller says that it is over."""
    condition = {"type": kind, "status": "True", "lastTransitionTime": NOW.isoformat()}
    world.children[job_key(world)]["status"] = {"conditions": [condition]}


def test_a_branch_is_asked_for_by_a_job():
    world = asking_world()
    plan = world.plan()
    assert job_key(world)
    assert plan.resolution.state is ResolutionState.RESOLVING
    assert plan.resolution.message == "asking the hub which commit stable is"
    assert (plan.target_revision, world.revisions()) == ("", set())


@pytest.mark.parametrize(
    "model",
    [
        {"uri": "hf://org/model", "revision": COMMIT},
        {"uri": "pvc://models"},
    ],
)
def test_a_commit_or_a_local_model_needs_no_job(model):
    world = a_world({"model": model})
    plan = world.settle()
    assert job_key(world) is None
    assert plan.resolution.state is ResolutionState.RESOLVED
    assert plan.resolution.commit == model.get("revision", "")


def test_the_answer_is_kept_before_the_job_goes():
    world = asking_world()
    world.answer_resolve_job()
    plan = world.step()
    assert plan.resolution.commit == COMMIT
    assert job_key(world) is not None
    assert {write.manifest["kind"] for write in plan.writes} >= {"ControllerRevision", "Deployment"}
    world.settle()
    assert job_key(world) is None


def test_the_pods_fetch_the_commit_and_not_the_branch():
    world = asking_world()
    world.answer_resolve_job()
    revision = world.settle().target_revision
    pod = world.deployment(revision)["spec"]["template"]["spec"]
    values = {one["name"]: one.get("value") for one in pod["initContainers"][0]["env"]}
    assert values["MODELSERVER_MODEL_REVISION"] == COMMIT


def test_a_branch_that_moves_changes_no_weights():
    world = asking_world()
    world.answer_resolve_job()
    before = world.settle().target_revision
    world.change(replicas=2)
    assert world.settle().target_revision == before
    assert job_key(world) is None


@pytest.mark.parametrize("message", ["", "no json", "{}", '{"revision": "main"}', "[1]"])
def test_an_answer_without_a_commit_is_none(message):
    world = asking_world()
    world.answer_resolve_job()
    ended = world.pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]
    ended["message"] = message
    assert world.plan().target_revision == ""


def test_the_pod_of_another_job_answers_nothing():
    world = asking_world()
    world.answer_resolve_job()
    world.pods[0]["metadata"]["labels"]["batch.kubernetes.io/job-name"] = "another"
    assert world.plan().target_revision == ""


@pytest.mark.parametrize(
    ("kind", "patience"), [("Complete", ANSWER_PATIENCE_SECONDS), ("Failed", JOB_RETRY_SECONDS)]
)
def test_a_job_that_ended_without_an_answer_is_made_anew_after_a_while(kind, patience):
    world = asking_world()
    finish(world, kind)
    first = world.children[job_key(world)]["metadata"]["uid"]
    plan = world.plan()
    assert plan.is_empty
    assert plan.requeue_after_seconds == patience
    world.pass_time(patience)
    plan = world.step()
    assert [removal.uid for removal in plan.removals] == [first]
    world.settle()
    assert world.children[job_key(world)]["metadata"]["uid"] != first


def test_another_question_is_another_job():
    world = asking_world()
    before = job_key(world)
    world.change(model={"uri": "hf://org/model", "revision": "other"})
    world.settle()
    assert job_key(world) not in {before, None}


def test_nothing_is_asked_while_suspended():
    world = a_world({**BRANCH, "suspend": True})
    plan = world.settle()
    assert job_key(world) is None
    assert plan.resolution.reason == "Suspended"
    world.change(suspend=False)
    world.settle()
    assert job_key(world)


def test_a_file_is_refused_unless_the_operator_allows_it():
    model = {"model": {"uri": "file:///opt/model"}}
    refused = a_world(model).settle()
    assert refused.resolution.state is ResolutionState.REFUSED
    assert "file:///opt/model" in refused.resolution.message
    assert a_world(model, allow_file_models=True).settle().target_revision


def test_while_the_next_model_is_asked_for_the_serving_one_stays():
    world = a_world({"model": {"uri": "pvc://models"}})
    world.settle()
    world.make_all_ready()
    world.settle()
    before, old = set(world.children), world.root_revision()
    world.change(**BRANCH)
    world.pass_time(3600)
    world.settle()
    assert before <= set(world.children)
    assert world.root_revision() == old


def test_an_operator_with_another_hub_keeps_the_hub_of_what_runs():
    world = asking_world()
    world.answer_resolve_job()
    world.settle()
    world.config = type(world.config)(
        runtime_image=world.config.runtime_image, hub_endpoint="http://mirror.example"
    )
    assert world.plan().is_empty


EXTRA_OF_THE_HUB = {
    "model": {"uri": "pvc://models"},
    "extraModels": [{"name": "embedder", "uri": "hf://org/embedder", "revision": OTHER}],
}


def test_the_hub_of_an_extra_model_is_pinned_too():
    world = a_world(EXTRA_OF_THE_HUB)
    world.settle()
    world.config = replace(world.config, hub_endpoint="http://mirror.example")
    assert world.plan().is_empty


def test_a_revision_with_an_extra_model_is_read_back_from_its_deployment():
    """Its record was deleted by hand, and the operator's own settings have changed since."""
    world = a_world(EXTRA_OF_THE_HUB)
    before = world.settle().target_revision
    record = next(key for key in world.children if key.kind == "ControllerRevision")
    del world.children[record]
    world.config = replace(
        world.config, hub_endpoint="http://mirror.example", runtime_image="runtime:2"
    )
    assert world.settle().target_revision == before


def test_an_extra_model_in_the_image_is_refused_unless_the_operator_allows_it():
    spec = {
        "model": {"uri": "pvc://models"},
        "extraModels": [{"name": "inside", "uri": "file:///opt/inside"}],
    }
    refused = a_world(spec).settle()
    assert refused.resolution.state is ResolutionState.REFUSED
    assert "file:///opt/inside" in refused.resolution.message
    assert a_world(spec, allow_file_models=True).settle().target_revision


def test_deadlines_come_from_what_is_observed_and_not_from_a_memory():
    world = asking_world()
    finish(world, "Failed")
    world.now = NOW + timedelta(seconds=20)
    assert world.plan().requeue_after_seconds == JOB_RETRY_SECONDS - 20
