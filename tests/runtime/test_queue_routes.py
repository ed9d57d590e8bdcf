"""How urgent a request is over HTTP, what its answer says about it, and what the queue shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.engine.request import Priority
from modelserver_runtime.errors import (
    CircuitOpen,
    DeadlineUnreachable,
    FailureClass,
    InvalidRequest,
    Overloaded,
    QueueTimeout,
)
from modelserver_runtime.rest.errors import response_of
from modelserver_runtime.rest.priority import priority_of, tier_served, wish_of
from support.access import SecretVolume, bearer, record
from support.runtime_server import RunningServer, running_server, settings_for

LOW, NORMAL, HIGH, CRITICAL = Priority


@pytest.mark.parametrize(
    ("body", "header", "tier", "expected"),
    [
        (None, None, None, NORMAL),
        (None, None, "auto", NORMAL),
        (None, None, "default", NORMAL),
        (None, None, "flex", LOW),
        (None, None, "scale", HIGH),
        (None, None, "priority", HIGH),
        (None, None, "fast", HIGH),
        (None, "critical", "flex", CRITICAL),
        ("low", "critical", "priority", LOW),
        (0, "high", None, NORMAL),
        (-1, None, None, HIGH),
        (5, None, "priority", LOW),
        (None, "-7", None, HIGH),
        (None, "HIGH ", None, HIGH),
    ],
)
@pytest.mark.parametrize("name", ["x-priority", "x-vllm-priority"])
def test_the_body_counts_before_the_header_and_the_header_before_the_tier(
    body, header, tier, expected, name
):
    wish = wish_of({name: header} if header else {})
    assert priority_of(body, wish, tier) is expected


@given(st.text(max_size=12))
def test_a_header_is_understood_or_refused_with_a_sentence(text):
    words, number = {"low", "normal", "high", "critical"}, re.compile(r"[+-]?\d[\d_]*")
    meant = text.strip().lower()
    if meant in words or (number.fullmatch(meant) and meant.isascii()):
        assert wish_of({"x-priority": text}) is not None
    else:
        with pytest.raises(InvalidRequest, match="must be low, normal, high, critical"):
            wish_of({"x-priority": text})


@pytest.mark.parametrize(
    ("asked", "given_", "served"),
    [
        (None, HIGH, None),
        ("auto", NORMAL, "default"),
        ("flex", LOW, "flex"),
        ("priority", HIGH, "priority"),
        ("priority", NORMAL, "default"),
    ],
)
def test_an_answer_says_the_tier_that_was_given(asked, given_, served):
    assert tier_served(asked, given_) == served


@pytest.mark.parametrize(
    ("failure", "status", "retry", "should_retry"),
    [
        (Overloaded("x", retry_after_seconds=0.25), 429, ("1", "250"), None),
        (DeadlineUnreachable("x", retry_after_seconds=3.2), 429, ("4", "3200"), None),
        (QueueTimeout("x", retry_after_seconds=2), 504, ("2", "2000"), "true"),
        (CircuitOpen("x", retry_after_seconds=60), 503, ("60", "60000"), "true"),
        (CircuitOpen("x", retry_after_seconds=61), 503, ("61", "61000"), "false"),
    ],
)
def test_refusals_tell_clients_exactly_when_to_come_back(failure, status, retry, should_retry):
    response = response_of(failure)
    assert response.status_code == status
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == retry
    assert response.headers.get("x-should-retry") == should_retry


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A server with three keys: of an administrator, of a user who may be as urgent as they like,
    and of one who may not be urgent at all.
    """

    server: RunningServer
    keys: dict[str, str]

    def chat(self, key: str = "urgent", headers: Any = None, **more: Any) -> httpx.Response:
        messages = [{"role": "user", "content": "hello"}]
        # With a temperature nothing is answered from the cache, which needs no turn.
        fields = {"model": "tiny", "max_tokens": 2, "temperature": 1, "messages": messages}
        return self.server.client.post(
            "/v1/chat/completions",
            json={**fields, **more},
            headers={**bearer(self.keys[key]), **(headers or {})},
        )

    def queue(self) -> Any:
        answer = self.server.client.get("/admin/queue/stats", headers=bearer(self.keys["admin"]))
        [model] = answer.json()["models"]
        return model

    def admitted(self, priority: str, tenant: str) -> int:
        [each] = [each for each in self.queue()["priorities"] if each["priority"] == priority]
        tenants = [one["admitted"] for one in each["tenants"] if one["tenant"] == tenant]
        return sum(tenants)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, causal_directory: Path) -> Iterator[Guarded]:
    volume = SecretVolume(tmp_path_factory.mktemp("secret") / "keys")
    kinds: dict[str, dict[str, Any]] = {
        "admin": {"scopes": ["admin", "metrics"]},
        "urgent": {"tenant": "urgent", "highest_priority": "critical"},
        "patient": {"tenant": "patient", "highest_priority": "normal"},
    }
    made = {name: record(**fields) for name, fields in kinds.items()}
    volume.write({name: content for name, (_, content) in made.items()})
    settings = settings_for(causal_directory, access_keys_directory=volume.path)
    with running_server(settings) as server:
        yield Guarded(server=server, keys={name: key for name, (key, _) in made.items()})


@pytest.mark.parametrize(
    ("key", "more", "priority", "tier"),
    [
        ("urgent", {}, "NORMAL", None),
        ("urgent", {"service_tier": "flex"}, "LOW", "flex"),
        ("urgent", {"service_tier": "auto", "priority": "critical"}, "CRITICAL", "default"),
        ("urgent", {"headers": {"X-Vllm-Priority": "-1"}}, "HIGH", None),
        ("patient", {"service_tier": "priority"}, "NORMAL", "default"),
        ("patient", {"headers": {"x-priority": "critical"}}, "NORMAL", None),
    ],
)
def test_a_request_stands_where_it_asks_to_stand_if_its_key_may(guarded, key, more, priority, tier):
    before = guarded.admitted(priority, key)
    answer = guarded.chat(key, **more)
    assert answer.status_code == 200, answer.text
    assert answer.json().get("service_tier") == tier
    assert guarded.admitted(priority, key) == before + 1


def test_the_queue_is_shown_only_to_administrators(guarded):
    asked = guarded.server.client.get("/admin/queue/stats", headers=bearer(guarded.keys["urgent"]))
    assert asked.status_code == 403


def test_a_header_that_cannot_be_read_is_the_clients_mistake(guarded):
    answer = guarded.chat(headers={"x-priority": "soon"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-priority"


def test_an_open_circuit_is_seen_in_the_answer_the_statistics_and_the_metrics(guarded):
    server = guarded.server
    gate = server.context.service.gate
    server.call(lambda: gate.trip(FailureClass.OUT_OF_MEMORY))
    try:
        answer = guarded.chat()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "circuit_open"
        assert answer.headers["x-should-retry"] == "true"
        assert guarded.queue()["circuits"]["out_of_memory"] == "Open"
        metrics = server.client.get("/metrics", headers=bearer(guarded.keys["admin"])).text
        [line] = [
            line
            for line in metrics.splitlines()
            if line.startswith("modelserver_circuit_state") and "out_of_memory" in line
        ]
        assert line.endswith(" 2.0")
    finally:
        server.call(lambda: gate.heal(FailureClass.OUT_OF_MEMORY))
    assert guarded.chat().status_code == 200
