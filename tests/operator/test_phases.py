"""The phase label of pods, from what is seen and both ways."""

import pytest

from modelserver_operator.plan.phases import phase_labels, starting_pods
from modelserver_operator.plan.values import Observed

ENDED = {"terminated": {"exitCode": 0}}
FAILED = {"terminated": {"exitCode": 44}}
RUNNING = {"running": {"startedAt": "now"}}


def a_pod(*, phase="fetching", fetch=None, status=None, has_fetch=True, **metadata):
    labels = {"modelserver.dev/revision": "aaaaaaaa", "modelserver.dev/phase": phase}
    init = [{"name": "fetch"}] if has_fetch else []
    statuses = [] if fetch is None else [{"name": "fetch", "state": fetch}]
    return {
        "metadata": {"name": "pod", "uid": "u", "labels": labels, **metadata},
        "spec": {"initContainers": init, "containers": [{"name": "server"}]},
        "status": {"phase": "Pending", "initContainerStatuses": statuses, **(status or {})},
    }


def observed(*pods):
    return Observed(children={}, strangers={}, pods=pods, progress={})


INITIALIZED = {"conditions": [{"type": "Initialized", "status": "True"}]}


@pytest.mark.parametrize(
    ("pod", "values"),
    [
        (a_pod(), []),
        (a_pod(fetch=RUNNING), []),
        (a_pod(fetch=FAILED), []),
        (a_pod(fetch=ENDED), ["serving"]),
        (a_pod(status=INITIALIZED), ["serving"]),
        (a_pod(phase="serving", fetch=ENDED), []),
        (a_pod(phase="serving", fetch=RUNNING), ["fetching"]),  # its sandbox was made anew
        (a_pod(phase="serving"), ["fetching"]),
        (a_pod(phase="serving", has_fetch=False), []),
        (a_pod(phase="fetching", has_fetch=False), ["serving"]),
        (a_pod(phase="made up", fetch=ENDED), ["serving"]),
        (a_pod(fetch=ENDED, deletionTimestamp="now"), []),
        (a_pod(fetch=ENDED, status={"phase": "Failed"}), []),
    ],
)
def test_the_label_follows_what_the_pod_does(pod, values):
    assert [label.value for label in phase_labels(observed(pod))] == values


def with_extra(*, fetch, extra):
    """A pod that fetches two models, one after the other."""
    pod = a_pod(fetch=fetch)
    pod["spec"]["initContainers"].append({"name": "fetch-model-embedder"})
    pod["status"]["initContainerStatuses"].append({"name": "fetch-model-embedder", "state": extra})
    return pod


@pytest.mark.parametrize(
    ("pod", "values"),
    [
        (with_extra(fetch=ENDED, extra={}), []),
        (with_extra(fetch=ENDED, extra=RUNNING), []),
        (with_extra(fetch=ENDED, extra=FAILED), []),
        (with_extra(fetch=ENDED, extra=ENDED), ["serving"]),
    ],
)
def test_a_pod_serves_when_every_model_is_there(pod, values):
    assert [label.value for label in phase_labels(observed(pod))] == values


def test_a_pod_that_fetches_an_extra_model_is_asked():
    pod = with_extra(fetch=ENDED, extra=RUNNING)
    pod["status"] |= RUNS
    assert starting_pods(observed(pod), ["aaaaaaaa"])


def test_pods_of_jobs_keep_their_phase():
    pod = a_pod(fetch=ENDED)
    del pod["metadata"]["labels"]["modelserver.dev/revision"]
    assert list(phase_labels(observed(pod))) == []


RUNS = {"podIP": "10.0.0.1"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
SERVER = {"containerStatuses": [{"name": "server", "state": RUNNING}]}


@pytest.mark.parametrize(
    ("pod", "is_asked"),
    [
        (a_pod(fetch=RUNNING, status=RUNS), True),
        (a_pod(status={**RUNS, **SERVER}), True),
        (a_pod(fetch=RUNNING), False),  # no address yet
        (a_pod(status=RUNS), False),  # nothing runs yet
        (a_pod(status={**RUNS, **SERVER, **READY}), False),
        (a_pod(status={**RUNS, **SERVER}, deletionTimestamp="now"), False),
    ],
)
def test_pods_that_run_and_are_not_ready_are_asked(pod, is_asked):
    assert bool(starting_pods(observed(pod), ["aaaaaaaa"])) is is_asked


def test_pods_of_other_revisions_are_not_asked():
    pod = a_pod(fetch=RUNNING, status=RUNS)
    assert starting_pods(observed(pod), ["bbbbbbbb"]) == []
