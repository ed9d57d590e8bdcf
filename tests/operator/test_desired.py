"""Properties of the planner that hold for every server and every course of events."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_operator.plan.looks import key_of
from modelserver_operator.plan.values import ChildKey, WriteMode
from support.planning import COMMIT, a_world

MODELS = st.sampled_from(
    [
        {"uri": "hf://org/model", "revision": COMMIT},
        {"uri": "hf://org/model", "revision": "main"},
        {"uri": "hf://org/model"},
        {"uri": "pvc://models"},
        {"uri": "pvc://models/a/b"},
        {"uri": "file:///opt/model"},
    ]
)
SPECS = st.fixed_dictionaries(
    {"model": MODELS},
    optional={
        "replicas": st.integers(0, 4),
        "suspend": st.booleans(),
        "network": st.fixed_dictionaries(
            {"policy": st.sampled_from(["Restricted", "Open", "None"])}
        ),
        "availability": st.fixed_dictionaries({"pdb": st.sampled_from(["Auto", "None"])}),
        "runtime": st.fixed_dictionaries(
            {"args": st.lists(st.sampled_from(["--a", "--b"]), max_size=1)}
        ),
    },
)

# What may happen between two reconciliations.
EVENTS = st.one_of(
    st.tuples(st.just("change"), SPECS),
    st.tuples(st.just("ready"), st.integers(0, 4)),
    st.tuples(st.just("delete"), st.integers(0, 30)),
    st.tuples(st.just("time"), st.sampled_from([1, 5, 20, 3600])),
    st.tuples(st.just("answer"), st.none()),
    st.tuples(st.just("crash"), st.integers(0, 5)),
    st.tuples(st.just("forget"), st.none()),
)


def happen(world, event):
    kind, value = event
    HAPPENINGS[kind](world, value)


def change(world, spec):
    world.manifest["spec"] = spec


def become_ready(world, count):
    for revision in world.revisions():
        world.make_ready(revision, count)


def delete(world, index):
    keys = sorted(world.children)
    if keys:
        del world.children[keys[index % len(keys)]]


def answer(world, _):
    if any(key.kind == "Job" for key in world.children):
        world.answer_resolve_job()


def forget(world, _):
    world.manifest["status"] = {}


def half_done(world, count):
    """The operator is killed after some of its writes."""
    plan = world.plan()
    for write in plan.writes[:count]:
        world._store(json.loads(json.dumps(write.manifest)))


HAPPENINGS = {
    "change": change,
    "ready": become_ready,
    "delete": delete,
    "time": lambda world, seconds: world.pass_time(seconds),
    "answer": answer,
    "crash": half_done,
    "forget": forget,
}


def check(world, plan):
    applied = {key_of(write.manifest) for write in plan.writes}
    removed = {removal.key for removal in plan.removals}
    assert not applied & removed
    assert all(len(key.name) <= 63 for key in applied)
    assert len(applied) == len(plan.writes)
    root = world.children.get(ChildKey("Service", "chat"))
    if root is not None:
        selected = root["spec"]["selector"]["modelserver.dev/revision"]
        is_kept = plan.serving_revision == selected
        serving = ChildKey("Deployment", f"chat-{selected}")
        assert not (is_kept and serving in removed)
    if plan.serving_revision:
        assert ChildKey("Deployment", f"chat-{plan.serving_revision}") not in removed


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, st.lists(EVENTS, max_size=12))
def test_whatever_happens_the_plan_is_sound_and_planning_twice_changes_nothing(spec, events):
    world = a_world(spec)
    for event in events:
        happen(world, event)
        check(world, world.plan())
        world.step()
    world.settle()
    assert world.plan().is_empty


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS, st.lists(EVENTS, max_size=8))
def test_a_kill_after_any_write_ends_in_the_same_state(spec, events):
    world = a_world(spec)
    for event in events:
        happen(world, event)
        world.step()
    world.pass_time(3600)
    world.settle()
    world.make_all_ready()
    for _ in range(3):
        world.settle()
        world.pass_time(3600)
    plan = world.plan()
    assert plan.is_empty
    if plan.target_revision:
        assert world.root_revision() == plan.target_revision
        assert world.revisions() == {plan.target_revision}


@settings(max_examples=30, deadline=None)
@given(SPECS)
def test_planning_is_a_function_of_what_is_seen(spec):
    world = a_world(spec)
    assert world.plan() == world.plan()


def test_drift_is_applied_and_an_addition_is_replaced_with_what_others_own_kept():
    world = a_world({"model": {"uri": "pvc://models"}})
    revision = world.settle().target_revision
    deployment = world.deployment(revision)
    deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    [write] = world.plan().writes
    assert write.mode is WriteMode.APPLY
    assert write.reason == "drift at spec.template.spec.terminationGracePeriodSeconds"

    stamp = {"kubectl.kubernetes.io/restartedAt": "now"}
    deployment["metadata"] |= {"resourceVersion": "7", "finalizers": ["example.com/x"]}
    deployment["metadata"]["labels"]["theirs"] = "kept"
    deployment["metadata"]["managedFields"] = [
        {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    ]
    deployment["spec"]["paused"] = True
    deployment["spec"]["template"]["metadata"]["annotations"] = stamp
    [write] = world.plan().writes
    assert (write.mode, write.reason) == (WriteMode.REPLACE, "addition at spec.paused")
    spec, metadata = write.manifest["spec"], write.manifest["metadata"]
    assert "paused" not in spec
    assert spec["template"]["metadata"]["annotations"] == stamp
    assert (metadata["resourceVersion"], metadata["finalizers"]) == ("7", ["example.com/x"])
    assert metadata["labels"]["theirs"] == "kept"


def test_a_replaced_service_keeps_its_address():
    world = a_world({"model": {"uri": "pvc://models"}})
    world.settle()
    root = world.children[ChildKey("Service", "chat")]
    root["spec"] |= {"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP"}
    root["metadata"]["managedFields"] = [
        {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:sessionAffinity": {}}}}
    ]
    [write] = world.plan().writes
    assert write.mode is WriteMode.REPLACE
    assert write.manifest["spec"]["clusterIP"] == "10.96.0.7"
    assert "sessionAffinity" not in write.manifest["spec"]


def test_a_restart_by_kubectl_is_no_drift():
    world = a_world({"model": {"uri": "pvc://models"}})
    revision = world.settle().target_revision
    template = world.deployment(revision)["spec"]["template"]
    template["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    assert world.plan().is_empty


def test_policies_and_pins_are_written_before_the_pods_that_need_them():
    kinds = [write.manifest["kind"] for write in a_world({"replicas": 2}).plan().writes]
    assert kinds == [
        "ControllerRevision",
        "ServiceAccount",
        "NetworkPolicy",
        "NetworkPolicy",
        "Deployment",
        "Service",
        "Service",
        "PodDisruptionBudget",
    ]
