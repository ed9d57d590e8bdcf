"""The short way of frequent requests: nobody can tell it from the long one."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from modelserver_runtime.app.application import _ROUTERS
from modelserver_runtime.rest import fast_lane
from modelserver_runtime.rest.fast_lane import PATHS, lanes_of
from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RunningServer, RunningServer]]:
    """One with the short way, and one without."""
    settings = Settings(served_name="tiny", max_body_bytes=5000)
    with (
        running_server(settings, fake_model(CountingBackend())) as short,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(fast_lane, "PATHS", frozenset())
        with running_server(settings, fake_model(CountingBackend())) as long:
            yield short, long


def test_the_routes_that_are_asked_most_have_a_short_way():
    assert lanes_of(module.router for module in _ROUTERS).keys() == PATHS


# From the content of one chunk to that of the next.
BETWEEN_TOKENS = re.compile(
    r'(?<=\w)"},"logprobs":null,"finish_reason":null}\]}\n\ndata: {[^\n]*?"delta":{"content":"'
)

CASES: dict[str, tuple[str, Any, dict[str, str]]] = {
    "an answer": ("/v1/chat/completions", CHAT, {}),
    "a stream": ("/v1/chat/completions", {**CHAT, "stream": True}, {}),
    "text": ("/v1/completions", {"model": "tiny", "prompt": "the", "max_tokens": 3}, {}),
    "generate": ("/generate", {"inputs": "the", "parameters": {"max_new_tokens": 2}}, {}),
    "a charset": ("/generate", {"inputs": "the"}, {"content-type": "application/json; charset=x"}),
    "no type": ("/generate", {"inputs": "the"}, {"content-type": "text/plain"}),
    "another model": ("/v1/chat/completions", {**CHAT, "model": "other"}, {}),
    "a wrong field": ("/v1/chat/completions", {**CHAT, "temperature": 9}, {}),
    "an unknown field": ("/v1/chat/completions", {**CHAT, "temprature": 1}, {}),
    "nothing": ("/v1/chat/completions", b"", {}),
    "broken": ("/v1/chat/completions", b'{"model": ', {}),
    "not UTF-8": ("/v1/chat/completions", b'{"model": "\xff"}', {}),
    "too large": ("/v1/chat/completions", b"x" * 5001, {}),
    "another task": ("/v1/embeddings", {"model": "tiny", "input": "a"}, {}),
    "a failure": ("/generate", {"inputs": "m"}, {}),
    "a failure before the stream": ("/generate", {"inputs": "m", "stream": True}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_lead_to_the_same_answer(servers, case):
    path, body, headers = CASES[case]
    content = body if isinstance(body, bytes) else json.dumps(body)
    sent = {"content-type": "application/json", **headers}
    short, long = (server.client.post(path, content=content, headers=sent) for server in servers)
    assert short.status_code == long.status_code
    assert short.headers["content-type"] == long.headers["content-type"]
    assert told(short.text) == told(long.text)


def told(text: str) -> str:
    """Without what is different each time: names, times, and which tokens wait for each other."""
    for line in text.replace("data: ", "").splitlines():
        if line.startswith("{") and "id" in (content := json.loads(line)):
            text = text.replace(content["id"], "ID").replace(str(content["created"]), "NOW")
    return BETWEEN_TOKENS.sub("", text)


def test_a_request_of_the_short_way_is_counted_by_its_route(servers):
    servers[0].client.post("/v1/chat/completions", json=CHAT)
    page = servers[0].client.get("/metrics").text
    assert 'route="/v1/chat/completions"' in page
