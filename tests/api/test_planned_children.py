"""What is planned, written to a real API server and read back: nothing is left to do.

The API server adds defaults and allocations; a planner that takes one of them for drift would write
for ever.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.drift import FIELD_MANAGER
from modelserver_operator.plan.looks import key_of
from modelserver_operator.plan.values import ChildKey, Observed, WriteMode
from modelserver_operator.resources.kinds import CHILD_KINDS
from support.definition import install_definition
from support.kube import path_of
from support.planning import CONFIG, NOW, a_manifest
from support.waiting import wait_until

CONFLICT = 409
GOLDEN = Path(__file__).parents[1] / "operator" / "golden"
CASES = {
    path.parent.name: yaml.safe_load(path.read_text()) for path in GOLDEN.glob("*/in.yaml")
} | {
    "odd_values": {
        "spec": {
            "resources": {
                "requests": {"cpu": "0.5", "memory": "1024Mi", "example.com/device": 1},
                "limits": {"memory": "1.5Gi", "example.com/device": "1"},
            },
            "runtime": {
                "env": [
                    {"name": "EMPTY", "value": ""},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ]
            },
            "podTemplate": {
                "spec": {
                    "hostNetwork": False,
                    "affinity": {"nodeAffinity": {}},
                    "volumes": [{"name": "model", "emptyDir": {"sizeLimit": "0.5Gi"}}],
                    "containers": [{"name": "server", "tty": False}],
                }
            },
        }
    }
}


@pytest.fixture(scope="module", autouse=True)
def definition(kube):
    install_definition(kube)


class Played:
    """One ModelServer in the API server, planned and written by the test itself."""

    def __init__(self, kube, namespace, spec, config):
        self.kube, self.namespace, self.config = kube, namespace, config
        manifest = a_manifest(spec)
        manifest["metadata"] = {"name": "chat", "namespace": namespace}
        self.manifest = kube.create(manifest)

    def plan(self):
        server = parse_model_server(self.manifest)
        return desired_state(server, self.observe(), self.config, NOW)

    def observe(self):
        children = {key_of(child): child for child in self._children()}
        return Observed(children=children, strangers={}, pods=(), progress={})

    def _children(self):
        uid = self.manifest["metadata"]["uid"]
        for kind in CHILD_KINDS:
            path = f"{kind.path}/namespaces/{self.namespace}/{kind.plural}"
            for item in self.kube.items(path):
                if any(o["uid"] == uid for o in item["metadata"].get("ownerReferences", [])):
                    yield {**item, "kind": kind.kind, "apiVersion": kind.api_version}

    def write(self):
        for write in self.plan().writes:
            self.write_one(write)

    def write_until_empty(self):
        def look():
            self.write()
            return self.plan().is_empty

        wait_until(look, timeout=10, what="nothing is left to write")

    def write_one(self, write):
        path = path_of(write.manifest)
        if write.mode is WriteMode.APPLY:
            self.kube.apply(write.manifest, manager=FIELD_MANAGER)
            return
        answer = self.kube.ask("PUT", path, write.manifest, params={"fieldManager": FIELD_MANAGER})
        # A controller may have been faster: then the reconciler looks again, and so do we.
        assert answer.is_success or answer.status_code == CONFLICT, answer.text

    def path(self, kind, name):
        return path_of(self.observe().children[ChildKey(kind, name)])


@pytest.fixture
def play(kube, namespace):
    def start(spec, **config):
        played = Played(kube, namespace, spec, replace(CONFIG, **config))
        played.write()
        return played

    return start


@pytest.mark.parametrize("case", CASES)
def test_after_writing_nothing_is_left_to_do(play, case):
    given = CASES[case]
    played = play(given["spec"], **given.get("config", {}))
    assert played.observe().children
    assert [write.reason for write in played.plan().writes] == []
    assert played.plan().removals == ()


EDITS = {
    "a sidecar": (
        "Deployment",
        {"spec": {"template": {"spec": {"containers": [{"name": "spy", "image": "spy"}]}}}},
    ),
    "a variable": (
        "Deployment",
        {
            "spec": {
                "template": {"spec": {"containers": [{"name": "server", "env": [{"name": "X"}]}]}}
            }
        },
    ),
    "a pause": ("Deployment", {"spec": {"paused": True}}),
    "another image": (
        "Deployment",
        {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "x"}]}}}},
    ),
    "sticky clients": ("Service", {"spec": {"sessionAffinity": "ClientIP"}}),
    "a second port": ("Service", {"spec": {"ports": [{"port": 81, "name": "more"}]}}),
    "a narrower selector": ("Service", {"spec": {"selector": {"more": "x"}}}),
    "an open door": ("NetworkPolicy", {"spec": {"egress": [{}]}}),
    "a token": ("ServiceAccount", {"automountServiceAccountToken": True}),
    "a token by default": ("ServiceAccount", {"automountServiceAccountToken": None}),
    "a label taken away": ("Service", {"metadata": {"labels": {"modelserver.dev/server": None}}}),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_put_right(play, kube, edit):
    kind, patch = EDITS[edit]
    played = play({"model": {"uri": "pvc://models"}})
    name = next(key.name for key in played.observe().children if key.kind == kind)
    path = played.path(kind, name)
    before = essence(kube.get(path))
    kube.patch(path, patch, kind="strategic-merge")
    assert essence(kube.get(path)) != before
    assert len(played.plan().writes) == 1
    played.write_until_empty()
    assert essence(kube.get(path)) == before


def essence(manifest):
    """Without what the API server and the Deployment controller count."""
    return {**manifest, "metadata": manifest["metadata"]["labels"], "status": None}


def test_a_restart_by_kubectl_stays(play, kube, kubectl, namespace):
    played = play({"model": {"uri": "pvc://models"}})
    revision = played.plan().target_revision
    kubectl("-n", namespace, "rollout", "restart", f"deployment/chat-{revision}")
    assert played.plan().is_empty
    kube.patch(played.path("Deployment", f"chat-{revision}"), {"spec": {"paused": True}})
    played.write_until_empty()
    restarted = kube.get(played.path("Deployment", f"chat-{revision}"))
    annotations = restarted["spec"]["template"]["metadata"]["annotations"]
    assert "kubectl.kubernetes.io/restartedAt" in annotations


@pytest.mark.parametrize("kind", ["Deployment", "Service", "NetworkPolicy", "ServiceAccount"])
def test_a_child_that_somebody_wrote_whole_is_accepted(play, kubectl, namespace, kind):
    """`kubectl replace --force` makes every default a field of somebody else's."""
    played = play({"model": {"uri": "pvc://models"}})
    name = next(key.name for key in played.observe().children if key.kind == kind)
    exported = kubectl("-n", namespace, "get", kind, name, "-o", "yaml")
    kubectl("-n", namespace, "replace", "--force", "-f", "-", stdin=exported)
    assert [write.reason for write in played.plan().writes] == []


def test_scaling_a_child_by_hand_is_undone(play, kubectl, namespace):
    played = play({"model": {"uri": "pvc://models"}})
    revision = played.plan().target_revision
    kubectl("-n", namespace, "scale", f"deployment/chat-{revision}", "--replicas=5")
    [write] = played.plan().writes
    assert (write.mode, write.reason) == (WriteMode.APPLY, "drift at spec.replicas")
    played.write_until_empty()
