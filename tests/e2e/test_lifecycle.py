"""A ModelServer from apply to delete, as a user sees it."""

import httpx2
import openai
import pytest
import yaml

from devcluster.demo import model
from modelserver_runtime.backends.hardware_processor import processor_flags
from modelserver_runtime.backends.native.library import VARIANTS
from support.waiting import wait_until


@pytest.fixture(scope="module")
def quickstart(module_servers, trained_claim):
    """The quickstart example itself, applied and ready."""
    document = yaml.safe_load(model.example("quickstart.yaml"))
    name = document["metadata"]["name"]
    module_servers.apply(name, document["spec"])
    module_servers.wait_ready(name)
    return name


@pytest.fixture
def client(module_servers, quickstart):
    return openai.OpenAI(base_url=f"{module_servers.url(quickstart)}/v1", api_key="none")


def test_the_openai_client_gets_an_answer_through_the_service(client, quickstart):
    answer = client.chat.completions.create(
        model=quickstart,
        messages=[{"role": "user", "content": "What is ModelServer?"}],
        temperature=0,
        max_tokens=64,
    )
    text = answer.choices[0].message.content
    assert "model" in text.lower()
    assert answer.choices[0].finish_reason == "stop"


def test_the_openai_client_streams_the_same_answer(client, quickstart):
    request = {
        "model": quickstart,
        "messages": [{"role": "user", "content": "What is ModelServer?"}],
        "temperature": 0,
        "max_tokens": 64,
    }
    whole = client.chat.completions.create(**request).choices[0].message.content
    chunks = client.chat.completions.create(**request, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole


def test_the_native_engine_answers_where_it_is_made_for_the_processor(module_servers, quickstart):
    """The image holds it compiled for each kind, and there is no compiler in it."""
    answer = httpx2.get(f"{module_servers.url(quickstart)}/models", timeout=30)
    [report] = answer.raise_for_status().json()["models"]
    loaded = report["loaded"]
    assert loaded["dtype"] == "bfloat16"
    if any(variant.needed <= processor_flags() for variant in VARIANTS):
        assert (loaded["engine"], loaded["engine_reason"]) == ("native", "")
    else:
        assert loaded["engine_reason"].startswith("the processor has none of")


def test_kubectl_get_shows_the_columns(module_servers, quickstart):
    header, row = module_servers.run("get", "msrv", quickstart).splitlines()
    about = ["READY", "STATUS", "REPLICAS", "REVISION", "ROLLOUT", "CANARY%"]
    assert header.split() == ["NAME", *about, "URL", "AGE"]
    assert row.split()[:2] == [quickstart, "True"]


def test_kubectl_wait_sees_the_condition(module_servers, quickstart):
    out = module_servers.run(
        "wait", f"modelserver/{quickstart}", "--for=condition=Ready", "--timeout=10s"
    )
    assert "condition met" in out


def test_kubectl_explain_describes_every_level(module_servers, quickstart):
    text = module_servers.run("explain", "modelserver.spec", "--recursive")
    for field in ("model", "uri", "engine", "runtime", "drainSeconds", "podTemplate"):
        assert field in text
    assert "DESCRIPTION" in module_servers.run("explain", "modelserver.spec.model.uri")


def test_kubectl_scale_changes_the_pods_and_a_budget_appears(module_servers, quickstart):
    module_servers.run("scale", f"modelserver/{quickstart}", "--replicas=2")
    server = module_servers.wait_ready(quickstart)
    assert server["status"]["readyReplicas"] == 2
    assert any(c.startswith("PodDisruptionBudget/") for c in module_servers.children(quickstart))
    module_servers.run("scale", f"modelserver/{quickstart}", "--replicas=1")
    wait_until(
        lambda: module_servers.get("modelserver", quickstart)["status"]["replicas"] == 1,
        timeout=90, what="one replica again",
    )  # fmt: skip
    wait_until(
        lambda: not [c for c in module_servers.children(quickstart) if c.startswith("PodDis")],
        timeout=30, what="no budget",
    )  # fmt: skip


def test_suspend_stops_the_pods_and_resume_brings_them_back(module_servers, quickstart):
    def set_suspend(value):
        patch = f'{{"spec": {{"suspend": {value}}}}}'
        module_servers.run("patch", "modelserver", quickstart, "--type=merge", "-p", patch)

    set_suspend("true")
    wait_until(
        lambda: module_servers.condition(quickstart, "Ready").get("reason") == "Suspended"
        and not [c for c in module_servers.children(quickstart) if c.startswith("Pod/")],
        timeout=120, what="no pods",
    )  # fmt: skip
    set_suspend("false")
    module_servers.wait_ready(quickstart)


def test_model_pods_have_no_token_and_cannot_write_to_their_root(module_servers, quickstart):
    pods = module_servers.get("pods", "-l", f"modelserver.dev/server={quickstart}")["items"]
    spec = pods[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert not [v for v in spec["volumes"] if "projected" in v]
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_delete_leaves_nothing(servers, trained_claim):
    servers.apply("leaver", {"model": {"uri": f"pvc://{trained_claim}"}, "replicas": 2})
    servers.wait_ready("leaver")
    assert servers.children("leaver")
    servers.delete("leaver")
    wait_until(lambda: not servers.children("leaver"), timeout=120, what="nothing left of leaver")
