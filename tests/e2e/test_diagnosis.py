"""What can go wrong on a cluster is said with a code, a sentence and a hint."""

import json

import pytest

MISSING_TOKEN = {"credentials": {"secretRef": {"name": "no-such-secret", "key": "token"}}}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def claim(trained_claim):
    return trained_claim


CASES = {
    "too-large": ({"resources": {"requests": {"cpu": "900"}}}, "InsufficientResource", "cpu"),
    "no-image": ({"runtime": {"image": "localhost/absent:1"}}, "ImagePull", "localhost/absent:1"),
    "wrong-flag": ({"runtime": {"args": ["--no-flag"]}}, "InvalidConfiguration", "no-flag"),
    "no-memory": (
        {"resources": {"limits": {"memory": "100Mi"}, "requests": {"memory": "100Mi"}}},
        "OutOfMemory",
        "100Mi",
    ),
    "no-claim": ({"model": {"uri": "pvc://no-such-claim"}}, "VolumeMissing", "no-such-claim"),
    "no-folder": ({"model": {"uri": "pvc://CLAIM/absent"}}, "ArtifactNotFound", "absent"),
    "no-secret": (
        {"model": {"uri": "hf://tests/quickstart", "revision": COMMIT, **MISSING_TOKEN}},
        "SecretMissing",
        "no-such-secret",
    ),
    "file": ({"model": {"uri": "file:///opt/model"}}, "FileModelsNotAllowed", "file://"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_problem_is_named(servers, claim, name):
    spec, code, word = CASES[name]
    spec = {"model": {"uri": "pvc://CLAIM"}, **spec}
    servers.apply(name, json.loads(json.dumps(spec).replace("CLAIM", claim)))
    diagnosis = servers.wait_diagnosis(name, code)
    assert word in diagnosis["message"] + diagnosis["hint"]
    assert diagnosis["hint"]
    server = servers.get("modelserver", name)
    for condition in server["status"]["conditions"]:
        assert condition["observedGeneration"] == server["metadata"]["generation"]
    assert servers.condition(name, "Ready")["status"] == "False"


def test_a_broken_new_revision_leaves_the_old_one_serving(servers, claim):
    servers.apply("halfway", {"model": {"uri": f"pvc://{claim}"}})
    before = servers.wait_ready("halfway")["status"]["servingRevision"]
    broken = {"runtime": {"args": ["--no-such-flag"]}}
    servers.apply("halfway", {"model": {"uri": f"pvc://{claim}"}, **broken})
    servers.wait_diagnosis("halfway", "InvalidConfiguration")
    server = servers.get("modelserver", "halfway")
    assert server["status"]["servingRevision"] == before
    assert servers.condition("halfway", "Serving")["status"] == "True"
    assert servers.condition("halfway", "Degraded")["status"] == "True"
    servers.apply("halfway", {"model": {"uri": f"pvc://{claim}"}})
    assert servers.wait_ready("halfway")["status"]["servingRevision"] == before


def test_a_quota_is_named(kubectl, servers, claim):
    hard = {"hard": {"count/pods": "0"}}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": hard,
    }
    servers.run("apply", "-f", "-", stdin=json.dumps(quota))
    try:
        servers.apply("over-quota", {"model": {"uri": f"pvc://{claim}"}})
        diagnosis = servers.wait_diagnosis("over-quota", "QuotaExceeded")
        assert "none" in diagnosis["message"]
    finally:
        servers.run("delete", "resourcequota", "none")
