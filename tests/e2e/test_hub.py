"""Models that come over the network: resolved, pinned, fetched, verified; failures overcome."""

import json

import openai
import pytest

from e2e.hub_pod import GATED, REPOSITORY, TOKEN, HubPod
from support.waiting import wait_until


@pytest.fixture(scope="module")
def hub(module_servers, images, trained_claim):
    made = HubPod(module_servers, images.runtime, trained_claim)
    made.start()
    return made


@pytest.fixture(autouse=True)
def hub_in_order(hub):
    yield
    hub.recover()


def hub_model(repository=REPOSITORY, **more):
    return {"model": {"uri": f"hf://{repository}", **more}}


def test_an_unpinned_model_is_resolved_pinned_fetched_and_served(servers, hub):
    servers.apply("unpinned", hub_model())
    server = servers.wait_ready("unpinned")
    artifact = server["status"]["artifact"]
    assert len(artifact["resolvedRevision"]) == 40
    assert artifact["sizeBytes"] > 100_000
    pods = servers.get("pods", "-l", "modelserver.dev/server=unpinned")["items"]
    phases = {pod["metadata"]["labels"].get("modelserver.dev/phase") for pod in pods}
    assert phases == {"serving"}, "a pod that serves may not reach what a fetching pod may"
    assert servers.condition("unpinned", "ModelResolved")["status"] == "True"
    client = openai.OpenAI(base_url=f"{servers.url('unpinned')}/v1", api_key="none")
    answer = client.completions.create(model="unpinned", prompt="Hello", max_tokens=3)
    assert answer.usage.completion_tokens > 0


def test_an_extra_model_is_fetched_before_the_pod_serves(servers, hub, trained_claim):
    servers.apply("first", hub_model())
    commit = servers.wait_ready("first")["status"]["artifact"]["resolvedRevision"]
    extra = {"name": "second", "uri": f"hf://{REPOSITORY}", "revision": commit}
    servers.apply("both", {"model": {"uri": f"pvc://{trained_claim}"}, "extraModels": [extra]})
    servers.wait_ready("both")
    (pod,) = servers.get("pods", "-l", "modelserver.dev/server=both")["items"]
    (fetched,) = pod["status"]["initContainerStatuses"]
    assert fetched["name"] == "fetch-model-second"
    assert fetched["state"]["terminated"]["exitCode"] == 0
    assert pod["metadata"]["labels"]["modelserver.dev/phase"] == "serving"
    client = openai.OpenAI(base_url=f"{servers.url('both')}/v1", api_key="none", timeout=120)
    answer = client.completions.create(model="second", prompt="Hello", max_tokens=3)
    assert answer.usage.completion_tokens > 0


def test_an_extra_model_that_is_not_there_is_diagnosed(servers, hub, trained_claim):
    extra = {"name": "absent", "uri": "hf://tests/absent", "revision": "0" * 40}
    servers.apply("half", {"model": {"uri": f"pvc://{trained_claim}"}, "extraModels": [extra]})
    diagnosis = servers.wait_diagnosis("half", "ArtifactNotFound")
    assert "tests/absent" in diagnosis["message"] + diagnosis["hint"]
    assert "spec.extraModels[absent]" in diagnosis["hint"]


def test_a_missing_repository_is_diagnosed(servers, hub):
    servers.apply("missing", hub_model("tests/absent"))
    diagnosis = servers.wait_diagnosis("missing", "ArtifactNotFound")
    assert "tests/absent" in diagnosis["message"]
    assert diagnosis["hint"]
    assert servers.condition("missing", "Ready")["status"] == "False"


def test_a_wrong_revision_is_diagnosed_and_the_right_one_heals_it(servers, hub):
    servers.apply("revision", hub_model(revision="no-such-branch"))
    diagnosis = servers.wait_diagnosis("revision", "ArtifactNotFound")
    assert "no-such-branch" in diagnosis["message"]
    servers.apply("revision", hub_model(revision="main"))
    server = servers.wait_ready("revision")
    assert server["status"].get("diagnosis", {}).get("code", "") == ""


def test_a_gated_repository_asks_for_a_token_and_takes_it(servers, hub):
    servers.apply("gated", hub_model(GATED))
    diagnosis = servers.wait_diagnosis("gated", "ArtifactAuth")
    assert "secretRef" in diagnosis["hint"]
    servers.run("create", "secret", "generic", "hub-token", f"--from-literal=token={TOKEN}")
    credentials = {"secretRef": {"name": "hub-token", "key": "token"}}
    servers.apply("gated", hub_model(GATED, credentials=credentials))
    servers.wait_ready("gated")
    pods = servers.get("pods", "-l", "modelserver.dev/server=gated")["items"]
    serving = [c for pod in pods for c in pod["spec"]["containers"]]
    assert "HF_TOKEN" not in json.dumps(serving), "the server itself gets no token"


def test_a_corrupt_file_is_diagnosed_and_heals_when_the_hub_is_right_again(servers, hub):
    hub.fail_with(kind="corrupt", path="*safetensors*", at=4096)
    servers.apply("corrupt", hub_model())
    diagnosis = servers.wait_diagnosis("corrupt", "ArtifactCorrupt")
    assert "safetensors" in diagnosis["message"]
    hub.recover()
    servers.wait_ready("corrupt", timeout=240)


def test_a_truncated_file_is_never_served(servers, hub):
    hub.fail_with(kind="truncate", path="*safetensors*", at=10_000)
    servers.apply("truncated", hub_model())
    servers.wait_diagnosis("truncated", "ArtifactCorrupt")
    assert servers.condition("truncated", "Serving")["status"] != "True"


def test_a_hub_that_is_down_is_waited_for(servers, hub):
    hub.go_down()
    try:
        servers.apply("patient", hub_model())
        wait_until(
            lambda: servers.condition("patient", "ModelResolved").get("status") != "True"
            and servers.children("patient"),
            timeout=60, what="patient is being resolved",
        )  # fmt: skip
    finally:
        hub.come_back()
    servers.wait_ready("patient", timeout=300)
