"""What goes wrong with a server is told in status: a code, a sentence, a hint, one Event."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from support import pod_outcomes
from support.pod_outcomes import Outcome
from support.servers import pinned, unpinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

WAITING = "CreateContainerConfigError"
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: none would help."
TAINTED = "0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: gpu}."
NO_CLAIM = '0/3 nodes are available: persistentvolumeclaim "models" not found.'


@dataclass(frozen=True)
class Case:
    """How a pod fares, which code follows, and a word that the sentence or hint must say."""

    code: str
    outcome: Outcome
    word: str = ""
    spec: dict[str, Any] = field(default_factory=pinned)


def exits(number: int, code: str, message: str, where: str = "init") -> Outcome:
    return pod_outcomes.exiting(number, code=code, message=message, hint="do it", where=where)


CASES = {
    "no node has the GPU": Case(
        "InsufficientResource", pod_outcomes.unschedulable(NO_GPU), "nvidia.com/gpu"
    ),
    "no node is allowed": Case("Unschedulable", pod_outcomes.unschedulable(TAINTED), "taint"),
    "no claim": Case(
        "VolumeMissing",
        pod_outcomes.unschedulable(NO_CLAIM),
        "models",
        {"model": {"uri": "pvc://models/chat"}},
    ),
    "image not pulled": Case("ImagePull", pod_outcomes.image_not_pulled(), "image"),
    "image name invalid": Case(
        "ImagePull", pod_outcomes.image_not_pulled("InvalidImageName", "could not parse"), "image"
    ),
    "no Secret": Case(
        "SecretMissing",
        pod_outcomes.image_not_pulled(WAITING, 'secret "hf-token" not found'),
        "hf-token",
    ),
    "no key in the Secret": Case(
        "SecretMissing",
        pod_outcomes.image_not_pulled(WAITING, "couldn't find key token in Secret ns/hf-token"),
        "token",
    ),
    "no ConfigMap": Case(
        "ConfigMapMissing",
        pod_outcomes.image_not_pulled(WAITING, 'configmap "settings" not found'),
        "settings",
    ),
    "wrong flag": Case(
        "InvalidConfiguration",
        exits(2, "InvalidConfiguration", "--no-such-flag is not known", "main"),
        "--no-such-flag",
    ),
    "gated model": Case("ArtifactAuth", exits(41, "ArtifactAuth", "the hub said 403"), "403"),
    "hub down": Case("ArtifactUnreachable", exits(42, "ArtifactUnreachable", "no answer")),
    "pickle only": Case("ArtifactRefused", exits(43, "ArtifactRefused", "only pickle"), "pickle"),
    "no such repository": Case(
        "ArtifactNotFound", exits(44, "ArtifactNotFound", "example/tiny is missing"), "example/tiny"
    ),
    "corrupt file": Case("ArtifactCorrupt", exits(45, "ArtifactCorrupt", "sha256 differs")),
    "unsupported": Case(
        "UnsupportedModel", exits(46, "UnsupportedModel", "no MambaForAll", "main"), "MambaForAll"
    ),
    "disk full": Case("DiskFull", exits(47, "DiskFull", "no space left")),
    "allocation failed": Case("OutOfMemory", exits(48, "OutOfMemory", "no memory", "main")),
    "killed by the kernel while serving": Case("OutOfMemory", pod_outcomes.out_of_memory("main")),
    "killed by the kernel while fetching": Case("OutOfMemory", pod_outcomes.out_of_memory("init")),
    "load too slow": Case("LoadTimeout", exits(49, "LoadTimeout", "600 s", "main")),
    "crash": Case("RuntimeCrash", exits(50, "RuntimeCrash", "Traceback", "main"), "Traceback"),
    "crash without a word": Case("RuntimeCrash", pod_outcomes.exiting(139), "139"),
    "unresolvable": Case(
        "ArtifactNotFound", exits(44, "ArtifactNotFound", "no branch main"), "main", unpinned()
    ),
    "unresolvable for want of a token": Case(
        "ArtifactAuth", exits(41, "ArtifactAuth", "401"), "401", unpinned()
    ),
}


def assert_told(servers, code, word=""):
    """Everything that a user can see says the same, about the latest generation."""
    diagnosis = servers.wait_diagnosis("chat", code)
    assert len(diagnosis["message"]) > len(code)
    assert diagnosis["hint"]
    assert word in diagnosis["message"] + diagnosis["hint"]
    server = servers.get("chat")
    generation = server["metadata"]["generation"]
    conditions = server["status"]["conditions"]
    assert {c["observedGeneration"] for c in conditions} == {generation}
    assert servers.condition("chat", "Ready")["status"] == "False"
    assert servers.condition("chat", "Ready")["reason"] == code


def events_about(servers, code):
    return [event for event in servers.events("chat") if event["reason"] == code]


def assert_announced_once(servers, code):
    wait_until(lambda: events_about(servers, code), timeout=5, what=f"an Event {code}")
    (event,) = events_about(servers, code)
    assert (event["type"], event.get("deprecatedCount", 1)) == ("Warning", 1)
    assert event["action"]


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_and_forgotten_when_it_is_right_again(servers, stage, name):
    case = CASES[name]
    stage.direct(case.outcome, namespace=servers.namespace)
    servers.create("chat", case.spec)
    assert_told(servers, case.code, case.word)
    assert_announced_once(servers, case.code)
    stage.direct(pod_outcomes.FINE, namespace=servers.namespace)
    if not _is_final(case):
        server = servers.wait_settled("chat")
        assert "diagnosis" not in server["status"]
        assert len(events_about(servers, case.code)) == 1


VOLUMES = {
    "SecretMissing": (
        {"access": {"apiKeys": {"secretRef": {"name": "chat-keys"}}}},
        'MountVolume.SetUp failed for volume "api-keys" : secret "chat-keys" not found',
        "spec.access.apiKeys.secretRef",
    ),
    "VolumeMissing": (
        {},
        'MountVolume.SetUp failed for volume "pvc-1" : mount failed: exit status 32',
        "pvc-1",
    ),
}


@pytest.mark.parametrize("code", VOLUMES)
def test_a_volume_that_cannot_be_mounted_is_told_and_forgotten(servers, stage, code):
    """As a kubelet tells it: in an Event about the pod, and nowhere else.

    The Event is there before the pod waits, or it would be asked for a minute later.
    """
    spec, note, word = VOLUMES[code]
    stage.direct(pod_outcomes.not_mounted(), namespace=servers.namespace)
    with stage.intermission():
        servers.create("chat", pinned(**spec))
        wait_until(lambda: servers.pods("chat"), timeout=30, what="a pod")
        for pod in servers.pods("chat"):
            servers.kube.create(_event_about(pod, note))
    assert_told(servers, code, word)
    assert_announced_once(servers, code)
    stage.direct(pod_outcomes.FINE, namespace=servers.namespace)
    assert "diagnosis" not in servers.wait_settled("chat")["status"]


def _event_about(pod, note):
    """In the older form, which kubelets write."""
    metadata, seen = pod["metadata"], "2026-01-01T00:00:00Z"
    where = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.mount", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", **where},
        "type": "Warning",
        "reason": "FailedMount",
        "message": note,
        "source": {"component": "kubelet", "host": "stage"},
        "firstTimestamp": seen,
        "lastTimestamp": seen,
        "count": 3,
    }


def _is_final(case: Case) -> bool:
    """A failed Job is made anew after a minute only; the suite does not wait for it."""
    return case.spec["model"].get("revision") == "main"


def quota(servers):
    hard = {"hard": {"pods": "0"}}
    _create(servers, "v1", "ResourceQuota", "none-left", hard)
    return pinned()


def pod_security(_servers):
    return pinned(podTemplate={"spec": {"hostNetwork": True}})


def invalid_template(_servers):
    container = {"name": "server", "imagePullPolicy": "Sometimes"}
    return pinned(podTemplate={"spec": {"containers": [container]}})


def file_model(_servers):
    return {"model": {"uri": "file:///opt/model"}}


def _create(servers, version, kind, name, spec):
    metadata = {"name": name, "namespace": servers.namespace}
    servers.kube.create({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})


REFUSALS: dict[str, tuple[Callable[..., dict[str, Any]], str]] = {
    "QuotaExceeded": (quota, "none-left"),
    "PodRefused": (pod_security, "host"),
    "InvalidPodTemplate": (invalid_template, "Sometimes"),
    "FileModelsNotAllowed": (file_model, "file:///opt/model"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_by_the_cluster_is_told(servers, stage, code):
    prepare, word = REFUSALS[code]
    servers.create("chat", prepare(servers))
    assert_told(servers, code, word)
    assert_announced_once(servers, code)
    servers.patch("chat", {"podTemplate": None, "model": pinned()["model"]})
    servers.kube.delete(f"/api/v1/namespaces/{servers.namespace}/resourcequotas/none-left")
    wait_until(
        lambda: servers.status("chat").get("diagnosis", {}).get("code") != code,
        timeout=90,
        what="no such diagnosis any more",
    )


def test_an_admission_policy_that_refuses_a_child_is_quoted(servers, stage, kube):
    with refusing_services(kube, servers.namespace):
        servers.create("chat")
        assert_told(servers, "ChildRefused", "no Services on Fridays")
    servers.wait_settled("chat", timeout=90)


def test_a_revision_that_crashes_from_the_start_never_serves(servers, stage):
    servers.create("chat")
    old = servers.wait_settled("chat")["status"]["servingRevision"]
    broken = exits(2, "InvalidConfiguration", "--broken", "main")
    stage.direct(broken, namespace=servers.namespace)
    stage.direct(pod_outcomes.FINE, namespace=servers.namespace, revision=old)
    servers.patch("chat", {"runtime": {"args": ["--broken"]}})
    servers.wait_diagnosis("chat", "InvalidConfiguration")
    assert servers.status("chat")["servingRevision"] == old
    for kind in ("Serving", "Degraded"):
        assert servers.condition("chat", kind)["status"] == "True"
    servers.patch("chat", {"runtime": {"args": []}})
    server = servers.wait_settled("chat")
    assert server["status"]["servingRevision"] == old
    assert "diagnosis" not in server["status"]


def test_progress_of_starting_pods_is_told(servers, stage):
    stage.progress = {
        "phase": "Fetching",
        "percent": 40,
        "doneBytes": 400,
        "totalBytes": 1000,
        "etaSeconds": 12,
        "message": "",
    }
    stage.direct(pod_outcomes.starting(stage.progress_address), namespace=servers.namespace)
    servers.create("chat")
    artifact = wait_until(
        lambda: _fetching(servers.status("chat")), timeout=20, what="progress in status"
    )
    assert (artifact["downloadPercent"], artifact["sizeBytes"]) == (40, 1000)
    assert servers.condition("chat", "Ready")["status"] == "Unknown"


def test_the_phase_label_follows_what_the_pod_does(servers, stage):
    def phases():
        return {
            pod["metadata"]["labels"].get("modelserver.dev/phase") for pod in servers.pods("chat")
        }

    stage.direct(pod_outcomes.starting("192.0.2.77"), namespace=servers.namespace)
    servers.create("chat")
    wait_until(lambda: phases() == {"fetching"}, timeout=20, what="phase fetching")
    stage.direct(pod_outcomes.FINE, namespace=servers.namespace)
    wait_until(lambda: phases() == {"serving"}, timeout=20, what="phase serving")


def _fetching(status):
    artifact = status.get("artifact", {})
    return (
        artifact if artifact.get("phase") == "Fetching" and "downloadPercent" in artifact else None
    )


POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@contextmanager
def refusing_services(kube, namespace):
    """A ValidatingAdmissionPolicy, as a platform team would install one."""
    services = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["services"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "matchConstraints": {"resourceRules": [services | {"operations": ["CREATE", "UPDATE"]}]},
        "validations": [{"expression": "false", "message": "no Services on Fridays"}],
    }
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    for path, spec in ((POLICIES, policy), (BINDINGS, binding)):
        answer = kube.ask("POST", path, {"metadata": {"name": namespace}, "spec": spec})
        assert answer.is_success, answer.text
    probe = {"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 80}]}}
    services_path = f"/api/v1/namespaces/{namespace}/services?dryRun=All"

    def is_in_force():
        return not kube.ask("POST", services_path, probe).is_success

    wait_until(is_in_force, timeout=20, what="the policy in force")
    yield
    for path in (BINDINGS, POLICIES):
        kube.delete(f"{path}/{namespace}")
