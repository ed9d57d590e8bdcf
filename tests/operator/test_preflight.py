"""The preflight's Job and policies, and every way in which it can end."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelserver_operator.apis.rollout import Preflight
from modelserver_operator.plan.resolving import find_target
from modelserver_operator.resources.preflight_job import (
    START_SECONDS,
    make_preflight_job,
    preflight_image,
)
from modelserver_operator.resources.preflight_policy import make_preflight_policies
from modelserver_operator.resources.revision import Revision
from modelserver_operator.rollout.preflight import PATIENCE, RETRY, read_preflight
from support.planning import CONFIG, NOW, a_server, nothing

GOLDEN_SET = {"goldenSet": {"configMapRef": {"name": "golden", "key": "cases"}}}
OUR_IMAGE = CONFIG.runtime_image


def a_preflight(**more: Any) -> Preflight:
    return Preflight.model_validate_json(json.dumps(GOLDEN_SET | more))


def a_job(server=None, preflight=None, **more: Any) -> dict[str, Any]:
    values = {"revision": "5d9f7c1a", "image": OUR_IMAGE, "run": "7-5d9f7c1a"} | more
    return make_preflight_job(server or a_server(), preflight or a_preflight(), **values)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(job)["containers"]
    return container


class TestJob:
    def test_it_asks_the_revision_and_nothing_else(self):
        job = a_job(preflight=a_preflight(minPassPercent=90, timeoutSeconds=120))
        assert container_of(job)["args"] == [
            "preflight",
            "--url=http://chat-5d9f7c1a:80",
            "--cases=/etc/modelserver/golden-set/cases.jsonl",
            "--min-pass-percent=90",
            "--timeout=120",
        ]
        assert job["spec"]["activeDeadlineSeconds"] == 120 + START_SECONDS

    def test_it_asks_once(self):
        job = a_job()
        assert job["spec"]["backoffLimit"] == 0
        assert pod_of(job)["restartPolicy"] == "Never"

    def test_it_has_no_rights(self):
        job = a_job()
        assert pod_of(job)["automountServiceAccountToken"] is False
        assert pod_of(job)["securityContext"]["runAsNonRoot"] is True
        assert container_of(job)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_no_request_to_the_revision_comes_to_it(self):
        labels = a_job()["spec"]["template"]["metadata"]["labels"]
        assert "modelserver.dev/revision" not in labels
        assert labels["modelserver.dev/role"] == "preflight"

    def test_the_cases_are_mounted_and_the_key_is_a_variable(self):
        job = a_job(preflight=a_preflight(apiKey={"name": "keys", "key": "preflight"}))
        golden_set = pod_of(job)["volumes"][0]["configMap"]
        items = [{"key": "cases", "path": "cases.jsonl"}]
        assert golden_set == {"name": "golden", "items": items}
        [_, key] = container_of(job)["env"]
        reference = {"name": "keys", "key": "preflight"}
        assert key == {"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": reference}}

    def test_without_a_key_there_is_no_variable(self):
        assert [one["name"] for one in container_of(a_job())["env"]] == ["HOME"]

    def test_where_the_users_pods_run_it_runs_too(self):
        spec = {"tolerations": [{"key": "gpu", "operator": "Exists"}], "restartPolicy": "Always"}
        job = a_job(a_server({"podTemplate": {"spec": spec}}))
        assert pod_of(job)["tolerations"][0]["key"] == "gpu"
        assert pod_of(job)["restartPolicy"] == "Never"

    @pytest.mark.parametrize(
        "change",
        [
            {"revision": "ffffffff"},
            {"run": "8-5d9f7c1a"},
            {"image": "registry.example/runtime:2"},
            {"preflight": a_preflight(minPassPercent=50)},
        ],
    )
    def test_another_question_is_another_job(self, change):
        names = {a_job()["metadata"]["name"], a_job(**change)["metadata"]["name"]}
        assert len(names) == 2
        assert a_job()["metadata"]["name"] in names

    def test_the_longest_name_fits(self):
        job = a_job(a_server(name="a" * 40))
        assert len(job["metadata"]["name"]) <= 63

    @pytest.mark.parametrize(
        ("spec", "image"),
        [
            ({}, OUR_IMAGE),
            ({"runtime": {"image": "example/mine:1"}}, "example/mine:1"),
            ({"engine": "Custom", "runtime": {"image": "example/other:1"}}, OUR_IMAGE),
            (
                {
                    "engine": "Custom",
                    "runtime": {"image": "example/other:1"},
                    "model": {"uri": "pvc://models/x"},
                },
                OUR_IMAGE,
            ),
        ],
    )
    def test_our_runtime_asks_whatever_serves(self, spec, image):
        assert preflight_image(revision_of(spec), CONFIG.runtime_image) == image


def revision_of(spec: dict[str, Any]) -> Revision:
    revision = find_target(a_server(spec), nothing(), CONFIG, NOW).revision
    assert revision is not None
    return revision


def test_the_policies_open_one_way_to_one_revision():
    way, door = make_preflight_policies(a_server(), "5d9f7c1a")
    asking = {"modelserver.dev/server": "chat", "modelserver.dev/role": "preflight"}
    asked = {"modelserver.dev/server": "chat", "modelserver.dev/revision": "5d9f7c1a"}
    ports = [{"protocol": "TCP", "port": 8080}]
    assert way["spec"]["podSelector"]["matchLabels"] == asking
    assert way["spec"]["policyTypes"] == ["Ingress", "Egress"]  # nobody may ask the asking pod
    assert way["spec"]["egress"] == [
        {"to": [{"podSelector": {"matchLabels": asked}}], "ports": ports}
    ]
    assert door["spec"]["podSelector"]["matchLabels"] == asked
    assert door["spec"]["ingress"] == [
        {"from": [{"podSelector": {"matchLabels": asking}}], "ports": ports}
    ]


JOB_UID = "job-1"


def stored_job(condition: str = "", *, seconds_ago: float = 0, **more: Any) -> dict[str, Any]:
    at = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    end = {"type": condition, "status": "True", "lastTransitionTime": at, **more}
    status = {"conditions": [end]} if condition else {}
    return {"metadata": {"name": "job", "uid": JOB_UID}, "status": status}


def a_pod(state: dict[str, Any] | None = None, *, uid: str = JOB_UID, **status: Any):
    statuses = [{"name": "preflight", "state": state}] if state else []
    return {
        "metadata": {"name": "pod", "ownerReferences": [{"uid": uid}]},
        "status": {"containerStatuses": statuses, **status},
    }


def ended(message: Any, code: int = 0, **more: Any) -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"terminated": {"exitCode": code, "message": text, **more}}


ALL_WELL = {"passed": 3, "failed": 0, "total": 3, "failures": []}
ONE_WRONG = {
    "passed": 2,
    "failed": 1,
    "failures": [{"name": "capital", "message": "expected 'Paris', got 'Rome'"}],
}


class TestReading:
    def test_before_there_is_a_job_nothing_is_known(self):
        assert read_preflight(None, [], NOW) == read_preflight(stored_job(), [], NOW)

    @pytest.mark.parametrize("condition", ["", "Complete"])
    def test_an_answer_counts_as_soon_as_the_pod_has_given_it(self, condition):
        seen = read_preflight(stored_job(condition), [a_pod(ended(ALL_WELL))], NOW)
        assert seen.outcome is not None
        assert (seen.outcome.passed, seen.outcome.failed, seen.outcome.message) == (3, 0, "")
        assert not seen.is_spent

    def test_a_wrong_answer_is_an_answer(self):
        pods = [a_pod(ended(ONE_WRONG, code=1))]
        seen = read_preflight(stored_job("Failed", seconds_ago=3600), pods, NOW)
        assert seen.outcome is not None
        assert (seen.outcome.passed, seen.outcome.failed) == (2, 1)
        assert seen.outcome.message == "capital: expected 'Paris', got 'Rome'"
        assert not seen.is_spent

    def test_another_jobs_pod_is_not_heard(self):
        pods = [a_pod(ended(ALL_WELL), uid="another")]
        assert read_preflight(stored_job(), pods, NOW).outcome is None

    @pytest.mark.parametrize(
        ("state", "sentence"),
        [
            (
                ended({"code": "InvalidConfiguration", "message": "Line 3: no JSON"}, 2),
                "Line 3: no JSON",
            ),
            (ended("Traceback ...", 1, reason="Error"), "it ended with Error (exit code 1)"),
            (ended("", 137, reason="OOMKilled"), "it ended with OOMKilled (exit code 137)"),
            (ended("[]", 1), "it ended with an error (exit code 1)"),
            (ended({"passed": 0, "failed": 0}, 1), "it ended with an error (exit code 1)"),
            (ended({"passed": "3", "failed": 0}), "it ended with an error (exit code 0)"),
        ],
    )
    def test_an_end_without_an_answer_is_told_and_the_job_made_anew(self, state, sentence):
        early = read_preflight(stored_job("Failed"), [a_pod(state)], NOW)
        assert (early.outcome, early.failure) == (None, sentence)
        assert (early.is_spent, early.wait_seconds) == (False, RETRY.total_seconds())
        late = stored_job("Failed", seconds_ago=RETRY.total_seconds())
        seen = read_preflight(late, [a_pod(state)], NOW)
        assert (seen.failure, seen.is_spent, seen.wait_seconds) == (sentence, True, None)

    def test_a_pods_last_words_are_waited_for(self):
        seen = read_preflight(stored_job("Complete"), [a_pod()], NOW)
        assert (seen.failure, seen.is_spent) == ("", False)
        assert seen.wait_seconds == PATIENCE.total_seconds()

    def test_a_pod_that_is_gone_leaves_the_jobs_reason(self):
        job = stored_job(
            "Failed", seconds_ago=40, reason="DeadlineExceeded", message="Job was active too long"
        )
        seen = read_preflight(job, [], NOW)
        assert seen.failure == "its pod is gone (DeadlineExceeded: Job was active too long)"
        assert seen.wait_seconds == 20

    @pytest.mark.parametrize(
        ("pod", "sentence"),
        [
            (
                a_pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}}),
                "CreateContainerConfigError: no key",
            ),
            (
                a_pod({"waiting": {"reason": "ImagePullBackOff"}}),
                "ImagePullBackOff: without a message",
            ),
            (
                a_pod(
                    conditions=[
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/1 nodes",
                        }
                    ]
                ),
                "no node has room for it: 0/1 nodes",
            ),
            (a_pod({"waiting": {"reason": "ContainerCreating"}}), ""),
            (a_pod({"running": {}}), ""),
        ],
    )
    def test_what_keeps_it_from_starting_is_told_while_it_does(self, pod, sentence):
        seen = read_preflight(stored_job(), [pod], NOW)
        assert (seen.failure, seen.is_spent, seen.outcome) == (sentence, False, None)

    def test_sentences_are_cut_to_what_the_status_holds(self):
        long = {"passed": 0, "failed": 1, "failures": [{"name": "a", "message": "x" * 3000}]}
        seen = read_preflight(stored_job(), [a_pod(ended(long, 1))], NOW)
        assert seen.outcome is not None
        assert len(seen.outcome.message) == 400
