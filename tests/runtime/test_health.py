"""Health is the truth: not ready before a first answer, not alive with a dead or stuck model."""

import re
import threading
from typing import Any

import httpx
import pytest

from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Phase
from modelserver_runtime.rest.protection import DOCUMENTS
from support.runtime_server import RunningServer, make_ready, running_server, settings_for

HELLO = [{"role": "user", "content": "hello"}]


def statuses(server: RunningServer) -> dict[str, int]:
    paths = ("/livez", "/startupz", "/readyz", "/health")
    return {path: server.client.get(path).status_code for path in paths}


def test_while_the_model_loads_the_server_answers_how_far_it_is(causal_directory):
    with running_server(settings_for(causal_directory), is_loaded=False) as server:
        server.context.lifecycle.progress.enter(Phase.LOADING, total_bytes=1000)
        server.context.lifecycle.progress.add(250)
        assert statuses(server) == {
            "/livez": 200,
            "/startupz": 503,
            "/readyz": 503,
            "/health": 503,
        }
        progress = server.client.get("/startupz").json()
        assert (progress["phase"], progress["percent"]) == ("Loading", 25)
        assert (progress["doneBytes"], progress["totalBytes"]) == (250, 1000)
        refused = server.post("/v1/chat/completions", model="tiny", messages=HELLO)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "not_ready"
        assert "Loading, 25 %" in refused.json()["error"]["message"]

        make_ready(server, load(server.context.settings, server.context.lifecycle.progress))
        assert set(statuses(server).values()) == {200}
        assert server.client.get("/startupz").json()["phase"] == "Ready"
        assert server.client.get("/startupz").json()["percent"] == 100


def test_health_says_what_is_served(chat_server):
    body = chat_server.client.get("/health").json()
    assert body["status"] == "ready"
    assert body["serves"]["architecture"] == "LlamaForCausalLM"
    assert body["serves"]["task"] == "TextGeneration"
    assert body["serves"]["threads"] == 1


def test_a_draining_server_is_alive_and_answers_but_wants_no_more(causal_directory):
    with running_server(settings_for(causal_directory)) as server:
        server.call(server.context.lifecycle.begin_drain)
        assert statuses(server) == {
            "/livez": 200,
            "/startupz": 200,
            "/readyz": 503,
            "/health": 503,
        }
        answer = server.post("/generate", inputs="the", parameters={"max_new_tokens": 2})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert "modelserver_ready" in server.client.get("/metrics").text
        assert metric(server, "modelserver_ready") == 0


def test_a_step_that_hangs_fails_liveness_and_readiness(causal_directory, monkeypatch):
    with running_server(settings_for(causal_directory, step_timeout_seconds=0.2)) as server:
        release, entered = threading.Event(), threading.Event()
        backend = server.context.service.generation.backend
        step = backend.step

        def hang(work: Any) -> Any:
            entered.set()
            assert release.wait(20)
            return step(work)

        monkeypatch.setattr(backend, "step", hang)
        asking = threading.Thread(target=server.post, args=("/generate",), kwargs={"inputs": "a"})
        asking.start()
        assert entered.wait(10)
        assert not release.wait(0.3)
        livez = server.client.get("/livez")
        assert livez.status_code == 503
        assert "at most 0 s are allowed" in livez.json()["reason"]
        assert server.client.get("/readyz").status_code == 503
        release.set()
        asking.join(20)
        assert server.client.get("/livez").status_code == 200


def test_a_dead_model_fails_liveness_and_every_request(causal_directory, monkeypatch):
    with running_server(settings_for(causal_directory)) as server:
        backend = server.context.service.generation.backend

        def die(_: Any) -> Any:
            raise SystemError("gone")

        monkeypatch.setattr(backend, "step", die)
        codes = [server.post("/generate", inputs="a").status_code for _ in range(6)]
        assert codes == [500] * 5 + [503]
        assert server.client.get("/livez").json()["reason"] == "The model's thread has died"
        assert server.client.get("/livez").status_code == 503
        assert server.client.get("/readyz").status_code == 503


def metric(server: RunningServer, name: str, **labels: str) -> float:
    wanted = {"model": "demo", "revision": "5d9f7c1a", **labels}
    for line in server.client.get("/metrics").text.splitlines():
        if line.startswith(name + "{"):
            found = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if found == wanted:
                return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_metrics_count_requests_and_tokens(causal_directory):
    with running_server(settings_for(causal_directory)) as server:
        for _ in range(3):
            server.post("/generate", inputs="the quick", parameters={"max_new_tokens": 4})
        server.post("/generate", inputs="")
        server.client.get("/no/such/route")
        server.client.get("/v1/models/a/b/c")
        count = "modelserver_requests_total"
        assert metric(server, count, route="/generate", code="200") == 3
        assert metric(server, count, route="/generate", code="400") == 1
        assert metric(server, count, route="unknown", code="404") == 1
        assert metric(server, count, route="/v1/models/{name:path}", code="404") == 1
        assert metric(server, "modelserver_generated_tokens_total") == 12
        assert metric(server, "modelserver_prompt_tokens_total") > 3
        assert metric(server, "modelserver_time_to_first_token_seconds_count") == 3
        assert metric(server, "modelserver_inter_token_seconds_count") == 9
        assert metric(server, "modelserver_queue_seconds_count", priority="NORMAL") == 3
        assert metric(server, "modelserver_running") == 0
        assert metric(server, "modelserver_waiting") == 0
        assert metric(server, "modelserver_ready") == 1
        assert metric(server, "modelserver_load_seconds") > 0
        assert metric(server, "modelserver_inflight_requests") == 0  # a scrape is no load


def test_a_full_queue_answers_429_with_a_time_to_come_back(causal_directory, monkeypatch):
    settings = settings_for(causal_directory, max_running_sequences=1, max_waiting=0)
    with running_server(settings) as server:
        gate, entered = threading.Event(), threading.Event()
        backend = server.context.service.generation.backend
        step = backend.step

        def slow(work: Any) -> Any:
            entered.set()
            assert gate.wait(20)
            return step(work)

        monkeypatch.setattr(backend, "step", slow)
        first = threading.Thread(target=server.post, args=("/generate",), kwargs={"inputs": "a"})
        first.start()
        assert entered.wait(10)
        for stream in (False, True):
            refused = server.post("/v1/completions", model="tiny", prompt="a", stream=stream)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == "queue_full"
        gate.set()
        first.join(20)
        assert server.post("/generate", inputs="a").status_code == 200


def test_an_answer_that_takes_too_long_is_504_and_not_to_be_repeated(causal_directory, monkeypatch):
    with running_server(settings_for(causal_directory, request_timeout_seconds=0.3)) as server:
        backend = server.context.service.generation.backend
        step, wait = backend.step, threading.Event()

        def slow(work: Any) -> Any:
            wait.wait(0.05)
            return step(work)

        monkeypatch.setattr(backend, "step", slow)
        late = server.post("/generate", inputs="a", parameters={"max_new_tokens": 200})
        assert late.status_code == 504
        assert late.headers["x-should-retry"] == "false"
        assert late.json()["error"]["code"] == "timeout"
        body = {"model": "tiny", "prompt": "a", "max_tokens": 200, "ignore_eos": True}
        stream = server.post("/v1/completions", **body, stream=True)
        assert stream.status_code == 200
        assert '"code":"timeout"' in stream.text.split("\n\n")[-2]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_stops_its_generation(causal_directory, monkeypatch, caplog, stream):
    with running_server(settings_for(causal_directory)) as server:
        backend = server.context.service.generation.backend
        step, freed, tick = backend.step, threading.Event(), threading.Event()
        free = backend.free

        def slow(work: Any) -> Any:
            tick.wait(0.02)
            return step(work)

        monkeypatch.setattr(backend, "step", slow)
        monkeypatch.setattr(backend, "free", lambda sequence: (free(sequence), freed.set()))
        body = {
            "model": "tiny",
            "prompt": "a",
            "max_tokens": 200,
            "stream": stream,
            "ignore_eos": True,
        }
        if stream:
            with server.client.stream("POST", "/v1/completions", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                server.client.post("/v1/completions", json=body, timeout=0.3)
        assert freed.wait(2)  # 200 tokens would take four seconds
        assert server.context.service.gate.inside == 0
        status = "200" if stream else "499"
        assert metric(server, "modelserver_requests_total", route="/v1/completions", code=status)
        assert not caplog.records


def test_the_description_lists_every_route(chat_server):
    paths = chat_server.client.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/embeddings", "/predict", "/metrics"} <= paths.keys()
    assert chat_server.client.get("/docs").status_code == 200


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_of_the_documents_need_nobody_but_the_server(chat_server, page):
    text = chat_server.client.get(page).text
    needed = re.findall(r"(?:src|href)=[\"']([^\"']+)", text)
    assert needed
    assert set(needed) <= DOCUMENTS
    for path in needed:
        assert chat_server.client.get(path).status_code == 200
