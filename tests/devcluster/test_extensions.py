"""What KEDA and metrics-server are installed as, and from where."""

import base64
import json
import zipfile
from types import SimpleNamespace

import pytest
import yaml

from devcluster import extension, kustomized, module_files
from devcluster.errors import ClusterStateError
from devcluster.keda import KEDA
from devcluster.metrics_server import METRICS_SERVER
from devcluster.module_files import Module
from devcluster.paths import PROGRAMS, ClusterFolder
from devcluster.record import Mode

MODULE = Module(path="example.com/thing", version="v1.0.0", checksum="h1:right=")


def a_deployment(name, *flags):
    container = {
        "name": name,
        "image": "ghcr.io/upstream:latest",
        "imagePullPolicy": "Always",
        "command": ["/upstream"],
        "args": list(flags),
        "readinessProbe": {"httpGet": {"path": "/readyz"}, "initialDelaySeconds": 20},
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


def container_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture
def cluster(short_path):
    folder = ClusterFolder(short_path / "dev")
    folder.root.mkdir()
    record = SimpleNamespace(mode=Mode.API_ONLY)
    return SimpleNamespace(name="dev", folder=folder, record=record, kubectl="kubectl")


@pytest.mark.parametrize("wanted", [KEDA, METRICS_SERVER], ids=lambda one: one.name)
def test_a_cluster_without_a_node_is_refused(cluster, wanted):
    with pytest.raises(ClusterStateError, match=f"has no node for the pods of {wanted.name}"):
        extension.install(cluster, wanted)


@pytest.mark.parametrize("wanted", [KEDA, METRICS_SERVER], ids=lambda one: one.name)
def test_manifests_are_of_the_module_that_the_programs_are_compiled_from(wanted):
    sums = (PROGRAMS / wanted.name / "go.sum").read_text()
    assert f"{wanted.module.path} {wanted.module.version} {wanted.module.checksum}\n" in sums


def test_a_deployment_runs_the_program_that_is_all_its_image_has():
    upstream = a_deployment("keda-operator", "--leader-elect")
    made = container_of(extension.with_image(upstream, {"keda-operator": "localhost/keda:1"}))
    assert made["image"] == "localhost/keda:1"
    assert made["imagePullPolicy"] == "IfNotPresent"
    assert made["args"] == ["--leader-elect"]
    assert "command" not in made
    assert made["readinessProbe"]["initialDelaySeconds"] == 0
    assert container_of(upstream)["command"] == ["/upstream"], "what is cached was changed"


def test_what_is_no_deployment_stays_as_it_is():
    service = {"kind": "Service", "metadata": {"name": "keda-operator"}}
    assert extension.with_image(service, {}) == service


def test_all_of_keda_trusts_the_authority_of_the_cluster(cluster):
    webhooks = [{"clientConfig": {"service": {"name": "keda-admission-webhooks"}}}]
    upstream = [
        {"kind": "APIService", "spec": {"service": {"name": "keda-metrics-apiserver"}}},
        {"kind": "ValidatingWebhookConfiguration", "webhooks": webhooks},
        a_deployment("keda-operator", "--leader-elect", "--enable-cert-rotation=true"),
    ]
    service, admission, operator, secret = KEDA.adapt(cluster, upstream)
    authority = secret["data"]["ca.crt"]
    assert base64.b64decode(authority) == (cluster.folder.certificates / "ca.crt").read_bytes()
    assert service["spec"]["caBundle"] == authority
    assert admission["webhooks"][0]["clientConfig"]["caBundle"] == authority
    assert container_of(operator)["args"] == ["--leader-elect"]
    assert base64.b64decode(secret["data"]["tls.key"]).startswith(b"-----BEGIN PRIVATE KEY")


def test_metrics_server_looks_as_often_as_it_may(cluster):
    flags = ("--cert-dir=/tmp", "--metric-resolution=15s")
    [made] = METRICS_SERVER.adapt(cluster, [a_deployment("metrics-server", *flags)])
    assert container_of(made)["args"] == [
        "--cert-dir=/tmp",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    ]


def test_definitions_go_before_those_who_end_what_was_made_of_them(cluster, monkeypatch):
    deleted = []

    def kubectl(_cluster, *_arguments, stdin):
        deleted.append([one["kind"] for one in json.loads(stdin)["items"]])

    made = [{"kind": kind} for kind in ("Namespace", "CustomResourceDefinition", "Deployment")]
    monkeypatch.setattr(extension, "_kubectl", kubectl)
    monkeypatch.setattr(extension, "manifests", lambda *_: made)
    extension.remove(cluster, KEDA)
    assert deleted == [["CustomResourceDefinition"], ["Namespace", "Deployment"]]


# -- kustomizations of modules ---------------------------------------------------------------------


@pytest.fixture
def a_module(tmp_path, monkeypatch):
    """Two folders of a module, and a kubectl that prints a file of the kustomization twice."""
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "module.zip"
    with zipfile.ZipFile(archive, "w") as files:
        for name in ("config/default/one.yaml", "config/base.yaml", "cmd/one.yaml"):
            files.writestr(f"{MODULE.wanted}/{name}", yaml.safe_dump({"kind": name}))
    kubectl, asked = tmp_path / "kubectl", tmp_path / "asked"
    kubectl.write_text(
        f"#!/bin/sh\n(cd $2/../.. && find . -name '*.yaml' | sort) >> {asked}\n"
        'cat "$2/one.yaml"; echo ---; cat "$2/one.yaml"\n'
    )
    kubectl.chmod(0o755)
    monkeypatch.setattr(module_files, "download", lambda _module, **_: archive)
    return SimpleNamespace(kubectl=kubectl, asked=asked)


def test_manifests_are_what_the_kustomization_makes_and_only_once(a_module):
    for _ in range(2):
        made = kustomized.kustomized(
            MODULE, "config/default", name="thing", kubectl=a_module.kubectl
        )
        assert made == [{"kind": "config/default/one.yaml"}] * 2
    assert a_module.asked.read_text().split() == ["./config/base.yaml", "./config/default/one.yaml"]
