"""Redis killed and back under load: no wrong answer, no 5xx, no more than a key may."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from modelserver_runtime.access.secret import new_secret
from support.access import a_key_set, bearer
from support.fake_model import CountingBackend, fake_model
from support.redis_server import RedisServer
from support.runtime_server import RunningServer, running_server, settings_for
from support.waiting import wait_until

pytestmark = pytest.mark.slow

GENERATE = {"inputs": "abc", "parameters": {"max_new_tokens": 3}}
ANSWER = "abc"


@contextmanager
def load(server: RunningServer, keys: dict[str, str]) -> Iterator[Counter[tuple[str, int]]]:
    """One client for each kind of key, as fast as it goes; counts answers, by kind and status."""
    seen: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    stop = threading.Event()

    def ask(kind: str, key: str) -> None:
        with httpx.Client(base_url=server.url, timeout=30, headers=bearer(key)) as client:
            while not stop.is_set():
                answer = client.post("/generate", json=GENERATE)
                seen[kind, answer.status_code] += 1
                if answer.is_success and answer.json()["generated_text"] != ANSWER:
                    wrong.append(answer.text)

    clients = [threading.Thread(target=ask, args=pair) for pair in keys.items()]
    for client in clients:
        client.start()
    try:
        yield seen
    finally:
        stop.set()
        for client in clients:
            client.join(30)
        assert not wrong


def wait_for_more(seen: Counter[tuple[str, int]], kinds: list[str], count: int = 15) -> None:
    def total(kind: str) -> int:
        return sum(number for (one, _), number in list(seen.items()) if one == kind)

    before = {kind: total(kind) for kind in kinds}
    wait_until(
        lambda: all(total(kind) >= before[kind] + count for kind in kinds),
        timeout=60,
        what="more answers",
        interval=0.02,
    )


def test_redis_killed_and_back_under_load_changes_no_answer(tmp_path, redis_server: RedisServer):
    keys = a_key_set(tmp_path / "keys")
    settings = settings_for(
        Path("/none"), access_keys_directory=keys.path, redis_url=redis_server.url
    )
    with running_server(settings, fake_model(CountingBackend())) as server:
        made = server.client.post(
            "/admin/keys/generate", json={"name": "made"}, headers=bearer(keys.admin)
        ).json()
        assert made["kept_in"] == "redis"
        kinds = {
            "user": keys.user,
            "made": made["key"],
            "unknown": new_secret(),
            "other_model": keys.other_model,
            "limited": keys.limited,
        }
        began = time.monotonic()
        with load(server, kinds) as seen:
            names = list(kinds)
            wait_for_more(seen, names)
            redis_server.kill()
            wait_for_more(seen, names)
            redis_server.start()
            wait_until(
                lambda: server.context.redis.is_reachable,
                timeout=60,
                what="Redis is asked again",
                interval=0.02,
            )
            wait_for_more(seen, names)
        minutes = 1 + (time.monotonic() - began) // 60
        assert {pair for pair in seen if pair[0] != "limited"} == {
            ("user", 200),
            ("made", 200),
            ("unknown", 401),
            ("other_model", 403),
        }
        assert {status for kind, status in seen if kind == "limited"} == {200, 429}
        assert seen["limited", 200] <= 2 * minutes
        report = server.client.get("/admin/keys/usage", headers=bearer(keys.admin)).json()
        assert report["counted_in"] == "redis"
        used = {entry["name"]: entry for entry in report["keys"]}
        for kind in ("user", "made", "other_model", "limited"):
            asked = sum(number for (one, _), number in seen.items() if one == kind)
            assert used[kind]["requests"] == asked, f"{kind}: none lost and none counted twice"
        assert used["user"]["errors"] == 0
        assert used["other_model"]["errors"] == used["other_model"]["requests"]


def test_a_server_that_starts_without_redis_says_what_it_cannot_know(tmp_path, redis_server):
    keys = a_key_set(tmp_path / "keys")
    redis_server.kill()
    settings = settings_for(
        Path("/none"), access_keys_directory=keys.path, redis_url=redis_server.url
    )
    with running_server(settings, fake_model(CountingBackend())) as server:

        def ask(key: str) -> httpx.Response:
            return server.client.post("/generate", json=GENERATE, headers=bearer(key))

        assert ask(keys.user).status_code == 200
        unknown = ask(new_secret())
        assert unknown.status_code == 503, "it may be a key that another replica has made"
        assert unknown.json()["error"]["code"] == "keys_unavailable"
        assert unknown.headers["retry-after"] == "1"
        body = {"name": "a"}
        refused = server.client.post("/admin/keys/generate", json=body, headers=bearer(keys.admin))
        assert refused.status_code == 503
        assert "Redis does not answer" in refused.json()["error"]["message"]


def test_two_servers_share_keys_limits_and_counts(tmp_path, redis_server):
    keys = a_key_set(tmp_path / "keys")
    settings = settings_for(
        Path("/none"),
        access_keys_directory=keys.path,
        redis_url=redis_server.url,
        redis_timeout_seconds=5,
        cache_max_entries=0,
    )
    with (
        running_server(settings, fake_model(CountingBackend())) as one,
        running_server(settings, fake_model(CountingBackend())) as two,
    ):
        admin = bearer(keys.admin)
        body = {"name": "a", "limits": {"requests_per_minute": 3}}
        made = one.client.post("/admin/keys/generate", json=body, headers=admin).json()
        key = bearer(made["key"])
        answers = [
            server.client.post("/generate", json=GENERATE, headers=key)
            for server in (one, two, one, two)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
        assert remaining == ["2", "1", "0", "0"]

        def counted() -> bool:
            for server in (one, two):
                server.client.get("/admin/keys/usage", headers=admin)
            report = one.client.get("/admin/keys/usage", headers=admin).json()
            used = next(entry for entry in report["keys"] if entry["id"] == made["id"])
            return (used["requests"], used["errors"], used["completion_tokens"]) == (4, 1, 9)

        wait_until(counted, timeout=20, what="both counted", interval=0.05)
        two.client.post("/admin/keys/revoke", json={"id": made["id"]}, headers=admin)

        def is_refused() -> bool:
            return one.client.post("/generate", json=GENERATE, headers=key).status_code == 401

        wait_until(is_refused, timeout=10, what="the other replica follows", interval=0.1)
