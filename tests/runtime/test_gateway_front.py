"""One door for all models: found by name, path or port, balanced over pods, held while asleep."""

import asyncio
import contextlib
import json

import httpx
import pytest

from modelserver_runtime.gateway.cluster import Address, HoldBounds, ServerKey
from support.gateway_world import CHAT, address, asleep, made, model
from support.web import (
    Upstream,
    bytes_answer,
    chat_events,
    json_answer,
    serving,
    stream_answer,
    until,
)

pytestmark = pytest.mark.slow  # a server and sockets for every test

NOWHERE = Address("127.0.0.1", 9)
KEY = ServerKey("models", "chat")


@pytest.fixture
async def here():
    async with made() as world:
        yield world


@pytest.fixture
async def pod():
    return Upstream("pod")


@pytest.fixture
async def at(pod):
    async with serving(pod) as url:
        yield address(url)


async def test_a_model_is_found_by_its_name_its_alias_and_its_namespace(here, pod, at):
    here.follow(model(names=("Org/Chat", "gpt"), ready=(at,)))
    for name in ("Org/Chat", "gpt", "models/chat"):
        answer = await here.client.post(CHAT, json={"x": 1, "model": name})
        assert answer.status_code == 200
        assert answer.json() == {"from": "pod"}
    sent = [one.json["model"] for one in pod.requests]
    assert sent == ["Org/Chat", "gpt", "Org/Chat"]  # pods know no namespaces


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_name_that_comes_late_in_a_large_body_is_found(here, pod, at, is_chunked):
    here.follow(model(ready=(at,)), model("other"))
    body = json.dumps({"x": "y" * 80_000, "model": "models/chat", "z": 1}).encode()

    async def pieces():
        for start in range(0, len(body), 7_000):
            yield body[start : start + 7_000]

    answer = await here.client.post(
        CHAT, content=pieces() if is_chunked else body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert pod.requests[0].json == json.loads(body) | {"model": "chat"}


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_body_that_is_too_large_is_refused(here, pod, at, is_chunked):
    here.follow(model(ready=(at,)))

    async def pieces():
        for _ in range(20):
            yield b"y" * 10_000

    content = pieces() if is_chunked else b"y" * 200_000
    answer = await here.client.post("/models/chat/predict", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    # Of one whose length nobody knew the pod has got the beginning, and then a broken connection.
    assert all(len(one.body) <= 100_000 for one in pod.requests)
    assert is_chunked or not pod.requests


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"model":"nobody"}', 404, "model_not_found"),
        (b'{"model":7}', 400, "invalid_request"),
        (b"{}", 400, "invalid_request"),
        (b"no JSON", 400, "invalid_request"),
        (b'{"model":"chat"', 200, ""),  # its name is there; the rest is the pod's to judge
        (b'{"messages":[', 400, "invalid_request"),
    ],
)
async def test_what_names_no_model_is_refused(here, at, content, status, code):
    here.follow(model(ready=(at,)), model("other"))
    answer = await here.client.post(CHAT, content=content)
    assert answer.status_code == status
    if code:
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_every_route_of_a_model_is_below_its_name(here, pod, at):
    here.follow(model(names=("Org/Chat",), ready=(at,)))
    for path in ("/models/Org/Chat/v1/files?limit=2", "/models/models/chat/predict"):
        assert (await here.client.get(path)).status_code == 200
    assert [(one.path, one.query) for one in pod.requests] == [
        ("/v1/files", "limit=2"),
        ("/predict", ""),
    ]
    assert (await here.client.get("/models/nobody/predict")).status_code == 404


async def test_text_is_generated_as_the_short_route_has_it(here, pod, at):
    here.follow(model(ready=(at,)))
    answer = await here.client.post("/models/chat/generate", json={"text": "a", "max_length": 7})
    assert answer.status_code == 200
    assert pod.requests[0].path == "/generate"
    assert pod.requests[0].json == {"inputs": "a", "parameters": {"max_new_tokens": 7}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": ""}, "text"),
        ({"max_length": 3}, "text"),
        ({"text": "a", "max_length": 0}, "max_length"),
        ({"text": "a", "max_length": True}, "max_length"),
        ({"text": "a", "x": 0}, "x"),
    ],
)
async def test_a_wrong_request_for_text_is_refused_here(here, pod, at, body, param):
    here.follow(model(ready=(at,)))
    answer = await here.client.post("/models/chat/generate", json=body)
    assert answer.status_code == 400
    assert param in answer.json()["error"]["message"]
    assert not pod.requests


async def test_the_lists_say_what_there_is(here, at):
    here.follow(
        model(ready=(at,), created="2026-01-01T00:00:00Z"),
        model(namespace="young", created="2026-02-01T00:00:00Z", holder_port=20001, phase="Cold"),
    )
    listed = (await here.client.get("/v1/models")).json()
    assert [one["id"] for one in listed["data"]] == ["chat", "young/chat"]
    assert listed["data"][0]["created"] == 1_767_225_600
    states = {
        one["name"]: one["state"] for one in (await here.client.get("/models")).json()["models"]
    }
    assert states == {"chat": "ready", "young/chat": "cold"}
    assert (await here.client.get("/models/young/chat/status")).json()["state"] == "cold"
    assert (await here.client.get("/v1/models/young/chat")).json()["owned_by"] == "young"
    health = await here.client.get("/health")
    assert health.json() == {"status": "ready", "models": 2, "states": {"cold": 1, "ready": 1}}


async def test_a_pod_that_cannot_be_reached_is_passed_over(here, pod, at):
    here.follow(model(ready=(NOWHERE, at)))
    for _ in range(8):
        assert (await here.client.post(CHAT, json={"model": "chat"})).status_code == 200
    assert len(pod.requests) == 8


async def test_when_no_pod_can_be_reached_it_is_said(here):
    here.follow(model(ready=(NOWHERE,)))
    answer = await here.client.post(CHAT, json={"model": "chat"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_a_pod_refuses_is_passed_on_as_it_is(here, pod, at, status):
    here.follow(model(ready=(at,)))
    pod.answer = json_answer({"error": {"message": "its own"}}, status)
    answer = await here.client.post(CHAT, json={"model": "chat"})
    assert answer.status_code == status
    assert answer.json() == {"error": {"message": "its own"}}


async def test_turns_of_one_conversation_meet_the_same_pod(here):
    pods = [Upstream(f"{number}") for number in range(4)]
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(one)) for one in pods]
        here.follow(model(ready=tuple(sorted(map(address, urls)))))
        for talk in range(8):
            messages = [{"role": "user", "content": f"talk {talk}"}]
            seen = set()
            for _ in range(3):
                body = {"model": "chat", "messages": messages}
                seen.add((await here.client.post(CHAT, json=body)).json()["from"])
                messages += [{"role": "assistant", "content": "yes"}]
                messages += [{"role": "user", "content": "and?"}]
            assert len(seen) == 1
        assert sum(bool(one.requests) for one in pods) > 1


async def test_without_affinity_a_conversation_is_spread():
    pods = [Upstream(f"{number}") for number in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        here = await stack.enter_async_context(made(prefix_affinity=False))
        urls = [await stack.enter_async_context(serving(one)) for one in pods]
        here.follow(model(ready=tuple(sorted(map(address, urls)))))
        for _ in range(20):
            body = {"model": "chat", "messages": [{"role": "user", "content": "talk"}]}
            await here.client.post(CHAT, json=body)
        assert all(one.requests for one in pods)


async def test_every_answer_has_what_browsers_are_told_and_an_id(here, at):
    here.follow(model(ready=(at,)))
    for path in ("/health", "/nothing", "/models/chat/x"):
        answer = await here.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "is_ours"), [("https://a.test", True), ("https://b.test", False)]
)
async def test_only_pages_of_known_origins_may_ask(origin, is_ours):
    async with made(cors_origins=("https://a.test",)) as here:
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await here.client.options(CHAT, headers=asked)
        answer = await here.client.get("/health", headers={"origin": origin})
    for one in (preflight, answer):
        assert one.headers.get("access-control-allow-origin") == (origin if is_ours else None)
    assert preflight.status_code == 204


async def test_beyond_the_limit_of_an_address_requests_are_refused(at):
    async with made(address_requests_per_minute=2) as here:
        here.follow(model(ready=(at,)))
        statuses = [(await here.client.get("/models")).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        assert (await here.client.get("/health")).status_code == 200


async def test_without_a_key_only_the_health_is_told(tmp_path, at, pod):
    async with made(access_enabled=True, access_state_directory=tmp_path) as here:
        here.follow(model(ready=(at,)))
        for path in ("/models", "/v1/models", "/models/chat/status", "/models/chat/x", "/x"):
            answer = await here.client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await here.client.get("/health")).status_code == 200
    assert not pod.requests


# -- asleep --------------------------------------------------------------------------------------


async def test_a_request_for_a_model_that_sleeps_wakes_it_and_is_answered(here, pod, at):
    here.follow(asleep())
    asking = asyncio.create_task(here.client.post(CHAT, json={"model": "chat"}))
    await until(lambda: here.woken)
    here.follow(asleep(starting=(at,)))
    answer = await asking
    assert answer.status_code == 200
    assert answer.headers["x-model-state"] == "cold"
    assert {one.path for one in pod.requests} == {"/readyz", CHAT}


async def test_a_pod_that_knows_no_readiness_is_ready_when_the_cluster_says_so(here, pod, at):
    """As an image of engine Custom, of which only /health is asked."""
    here.follow(asleep())
    pod.answer = json_answer({"detail": "Not Found"}, 404)
    asking = asyncio.create_task(here.client.post(CHAT, json={"model": "chat"}))
    await until(lambda: here.woken)
    here.follow(asleep(starting=(at,)))
    await until(lambda: len(pod.requests) >= 3)
    assert {one.path for one in pod.requests} == {"/readyz"}, "it is not let go"
    pod.answer = readiness_unknown
    here.follow(asleep(ready=(at,)))
    answer = await asking
    assert answer.json() == {"from": "custom"}


async def readiness_unknown(asked, receive, send):
    if asked.path == "/readyz":
        await json_answer({"detail": "Not Found"}, 404)(asked, receive, send)
    else:
        await json_answer({"from": "custom"})(asked, receive, send)


async def test_a_pod_that_says_it_is_not_ready_is_not_whatever_the_cluster_says(here, pod, at):
    pod.answer = json_answer({"phase": "Loading"}, 503)
    here.follow(asleep())
    asking = asyncio.create_task(here.client.post(CHAT, json={"model": "chat"}))
    await until(lambda: here.woken)
    here.follow(asleep(ready=(at,)))
    await until(lambda: len(pod.requests) >= 4)
    assert {one.path for one in pod.requests} == {"/readyz", "/startupz"}
    pod.answer = json_answer({"from": "pod"})
    assert (await asking).json() == {"from": "pod"}


async def test_a_stream_is_told_how_far_its_model_has_come(here, pod, at):
    here.follow(asleep())
    pod.answer = json_answer({"phase": "Fetching", "percent": 62}, 503)
    lines = []
    body = {"model": "chat", "stream": True}
    async with here.client.stream("POST", CHAT, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        here.follow(asleep(starting=(at,)))
        async for line in answer.aiter_lines():
            lines.append(line)
            if line == ": fetching 62 %":
                pod.answer = stream_answer(*chat_events("hello"))
    assert lines[0] == ": cold"
    assert "data: [DONE]" in lines
    assert any("hello" in line for line in lines)


async def test_a_refusal_after_a_stream_has_begun_is_an_event(here):
    here.follow(asleep(hold=HoldBounds(max_seconds=4)))
    body = {"model": "chat", "stream": True}
    answer = await here.client.post(CHAT, json=body)
    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "hold_timeout"


async def test_who_waited_too_long_is_told_when_to_try_again(here):
    here.follow(asleep(cold_start_seconds=25))
    answer = await here.client.post(
        CHAT, json={"model": "chat"}, headers={"x-request-timeout": "0.5"}
    )
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 25


@pytest.mark.parametrize("path", ["/health", "/readyz", "/metrics", "/v2/health/ready"])
async def test_probes_wake_nobody(here, path):
    here.follow(asleep())
    answer = await here.client.get(f"/models/chat{path}")
    assert answer.status_code == 503
    assert not here.woken


async def test_the_port_of_a_server_is_that_server(here, pod, at):
    here.follow(asleep(ready=(at,)), model("other"))
    async with (
        serving(here.front.at_port(20000)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        for path in (CHAT, "/v1/models", "/models/other/x"):
            answer = await client.post(path, json={"model": "anything"})
            assert answer.json() == {"from": "pod"}
        here.follow(model("other"))
        assert (await client.get("/v1/models")).status_code == 404
    assert [one.path for one in pod.requests] == [CHAT, "/v1/models", "/models/other/x"]


async def test_a_pod_that_ends_within_its_answer_cuts_the_answer_off(here, pod, at):
    async def broken(_, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("the pod ends")

    here.follow(model(ready=(at,)))
    pod.answer = broken
    with pytest.raises(httpx.RemoteProtocolError):
        await here.client.post(CHAT, json={"model": "chat"})
    await until(lambda: here.traffic.models[KEY].classes == {"broken": 1})


async def test_what_models_were_asked_is_counted(here, pod, at):
    here.follow(model(ready=(at,)), model("broken", ready=(NOWHERE,)))
    for name in ("chat", "chat", "broken", "nobody"):
        await here.client.post(CHAT, json={"model": name})
    pod.answer = json_answer({}, 404)
    await here.client.get("/models/chat/x")
    await here.client.get("/models")
    counted = {key.name: dict(one.classes) for key, one in here.traffic.models.items()}
    assert counted == {"chat": {"2xx": 2, "4xx": 1}, "broken": {"5xx": 1}}
    assert here.traffic.recent(KEY).in_flight == 0


async def test_bodies_pass_as_they_are(here, pod, at):
    here.follow(model(ready=(at,)))
    content = bytes(range(256)) * 300
    pod.answer = bytes_answer(content, kind="application/octet-stream")
    answer = await here.client.post("/models/chat/x", content=content)
    assert answer.content == content
    assert pod.requests[0].body == content
