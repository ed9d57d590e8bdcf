"""Replicas that share answers through a real Redis, which dies and comes back; and their admin."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server
from support.waiting import wait_until

pytestmark = pytest.mark.slow

LETTERS = "abcdefgh"
TOKENS = 12


class EchoBackend(CountingBackend):
    """Says the prompt again and again, so that an answer of another prompt is seen at once."""

    def _step_one(self, item: Any) -> Any:
        output = super()._step_one(item)
        if output.token_id is None:
            return output
        prompt = self.prompts[item.sequence_id]
        return replace(output, token_id=prompt[(output.token_id - 1) % len(prompt)])


def expected(word: str) -> str:
    return (word * TOKENS)[:TOKENS]


def settings_of(folder: Path, **changes: Any) -> Settings:
    values = {"model_directory": folder, "served_name": "tiny", "name": "demo", "revision": "1"}
    return Settings(**{**values, **changes})


@pytest.fixture
def replicas(tmp_path, redis_server) -> Iterator[list[RunningServer]]:
    with ExitStack() as stack:
        settings = settings_of(tmp_path, redis_url=redis_server.url)
        yield [
            stack.enter_context(running_server(settings, fake_model(EchoBackend())))
            for _ in range(2)
        ]


def ask(client: httpx.Client, word: str, **headers: str) -> httpx.Response:
    body = {"inputs": word, "parameters": {"max_new_tokens": TOKENS}}
    response = client.post("/generate", json=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["generated_text"] == expected(word)
    return response


def outcome(server: RunningServer, word: str, **headers: str) -> str:
    return ask(server.client, word, **headers).headers["x-cache"]


def settled(server: RunningServer) -> None:
    """Answers are written after they were given."""
    wait_until(lambda: not writes(server), timeout=10, what="the answer is in Redis")


def writes(server: RunningServer) -> int:
    cache = server.context.cache
    assert cache is not None
    return server.call(lambda: sum(shelf.writing for shelf in cache))


def test_what_one_replica_has_answered_the_other_knows(replicas):
    one, other = replicas
    assert outcome(one, "abc") == "miss"
    settled(one)
    assert outcome(other, "abc") == "hit"
    assert outcome(other, "abd") == "miss"


def test_invalidating_one_replica_reaches_the_other(replicas):
    one, other = replicas
    for server in (one, other):
        outcome(server, "abc")
    settled(one)
    assert one.context.cache is not None
    told = asyncio.run_coroutine_threadsafe(one.context.cache.invalidate("tiny"), one.loop)
    assert told.result(10).is_shared
    wait_until(lambda: outcome(other, "abc") != "hit", timeout=5, what="the other has forgotten")


class Load:
    """Clients that ask for few words in every way, and believe no answer."""

    def __init__(self, servers: list[RunningServer]) -> None:
        self._servers = servers
        self._stop = threading.Event()
        self.answers = 0
        self.outcomes: Counter[str] = Counter()
        self.mistakes: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=[seed]) for seed in range(4)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, seed: int) -> None:
        dice = random.Random(seed)
        try:
            with ExitStack() as stack:
                clients = [
                    stack.enter_context(httpx.Client(base_url=server.url, timeout=30))
                    for server in self._servers
                ]
                while not self._stop.is_set():
                    word = "".join(dice.choices(LETTERS, k=dice.choice([1, 2, 2, 3])))
                    control = dice.choice(["", "", "", "no-cache", "max-age=1"])
                    response = ask(dice.choice(clients), word, **{"cache-control": control})
                    self.outcomes[response.headers["x-cache"]] += 1
                    self.answers += 1
        except BaseException as error:  # noqa: BLE001  the test's thread looks at it
            self.mistakes.append(error)

    def goes_on(self, what: str, answers: int = 60) -> None:
        enough = self.answers + answers
        wait_until(lambda: self.answers >= enough or self.mistakes, timeout=30, what=what)
        assert not self.mistakes


def test_answers_are_right_while_redis_dies_comes_back_and_forgets(replicas, redis_server):
    one, other = replicas
    with Load(replicas) as load:
        load.goes_on("with Redis")
        redis_server.kill()
        load.goes_on("without Redis")
        redis_server.start()
        load.goes_on("with Redis again")
        redis_server.freeze()
        load.goes_on("with a Redis that says nothing", answers=20)
        redis_server.thaw()
        redis_server.forget()
        load.goes_on("with an empty Redis")
    assert not load.mistakes
    assert load.outcomes["hit"] > 0
    assert load.outcomes["miss"] > 0
    words = iter(
        f"{a}{b}{c}{d}" for a in LETTERS for b in LETTERS for c in LETTERS for d in LETTERS
    )

    def is_shared_again() -> bool:
        word = next(words)
        outcome(one, word)
        settled(one)
        return outcome(other, word) == "hit"

    wait_until(is_shared_again, timeout=40, what="replicas share answers again", interval=0.2)


def test_a_dead_redis_costs_one_time_out_and_not_one_per_request(tmp_path, redis_server):
    settings = settings_of(tmp_path, redis_url=redis_server.url, redis_timeout_seconds=0.2)
    with running_server(settings, fake_model(EchoBackend())) as server:
        outcome(server, "a")
        redis_server.freeze()
        began = time.monotonic()
        for first in LETTERS:
            assert outcome(server, f"{first}b") == "miss"
        assert time.monotonic() - began < 0.2 * len(LETTERS)
        redis_server.thaw()


KEYS = {"admin": "hf_" + "A" * 43, "user": "hf_" + "B" * 43, "other": "hf_" + "C" * 43}


@pytest.fixture
def guarded(tmp_path) -> Iterator[RunningServer]:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, key in KEYS.items():
        scopes = ["admin"] if name == "admin" else ["inference"]
        (folder / name).write_text(json.dumps({"key": key, "scopes": scopes}))
    settings = settings_of(tmp_path, access_keys_directory=folder)
    with running_server(settings, fake_model(EchoBackend())) as server:
        yield server


def as_key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


def test_keys_do_not_see_each_others_answers(guarded):
    outcomes = [outcome(guarded, "abc", **as_key(name)) for name in ("user", "other", "user")]
    assert outcomes == ["miss", "miss", "hit"]


def test_an_admin_sees_counts_and_makes_the_cache_forget(guarded):
    for word in ("ab", "ab", "cd"):
        outcome(guarded, word, **as_key("user"))
    stats = guarded.client.get("/admin/cache/stats", headers=as_key("admin")).json()
    [model] = stats["models"]
    assert (stats["is_enabled"], stats["shared"], stats["entries"]) == (True, "off", 2)
    assert (model["model"], model["entries"], model["in_flight"]) == ("tiny", 2, 0)
    assert (model["hits"], model["misses"], model["coalesced"]) == ({"memory": 1}, 2, 0)
    assert model["saved_tokens"] == 2 + TOKENS
    assert model["bytes"] == stats["bytes"] > 0

    invalidate = {"url": "/admin/cache/invalidate", "headers": as_key("admin")}
    unknown = guarded.client.post(**invalidate, json={"model": "nobody"})
    assert unknown.status_code == 404
    answer = guarded.client.post(**invalidate, json={"model": "tiny"}).json()
    assert answer == {"invalidated": [{"model": "tiny", "entries": 2, "is_shared": True}]}
    assert outcome(guarded, "ab", **as_key("user")) == "miss"
    assert guarded.client.post(**invalidate, json={}).json()["invalidated"][0]["entries"] == 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/admin/cache/stats"), ("POST", "/admin/cache/invalidate")]
)
def test_nobody_else_may(guarded, method, path):
    assert guarded.client.request(method, path, json={}).status_code == 401
    refused = guarded.client.request(method, path, json={}, headers=as_key("user"))
    assert refused.status_code == 403
