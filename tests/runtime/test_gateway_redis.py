"""Two gateways that count in Redis, as it is killed and comes back: everybody is served."""

import asyncio
import contextlib
import re
from collections import Counter

import httpx
import pytest

from support.access import SecretVolume, bearer, record
from support.played_api import PlayedApi, has, has_gateways
from support.runtime_process import runtime_process
from support.web import Upstream, serving, until

pytestmark = pytest.mark.slow  # starts processes and a Redis

LIMIT = 10  # requests a minute of each key
LISTENING = "Listening on (http://[^;]+); administration on (http://.+)"
PHASES = ("together", "apart", "again", "much")


@pytest.fixture
def keys(tmp_path):
    """One for each phase: what one has used is nothing to another."""
    made = {name: record() for name in PHASES[:-1]}
    made["much"] = record(limits={"requests_per_minute": 1_000_000})
    SecretVolume(tmp_path / "keys").write({name: text for name, (_, text) in made.items()})
    return {name: bearer(key) for name, (key, _) in made.items()}


@pytest.fixture
async def api():
    pod, made = Upstream("pod"), PlayedApi()
    async with serving(pod) as pod_url, serving(made) as made.url:
        pod.port = int(pod_url.rpartition(":")[2])
        has(made, pod)
        has_gateways(made, 2)
        yield made


class Gateway:
    def __init__(self, process, client):
        line = process.wait_for_line("Listening on")
        self.url, self.admin = re.search(LISTENING, line).groups()
        self.process, self.client = process, client

    async def ask(self, key):
        answer = await self.client.post(
            f"{self.url}/v1/chat/completions", json={"model": "chat"}, headers=key
        )
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
        return answer

    async def report(self):
        return (await self.client.get(f"{self.admin}/readyz")).json()

    async def redis_up(self):
        text = (await self.client.get(f"{self.admin}/metrics")).text
        return float(re.search(r"^modelserver_redis_up (\S+)$", text, re.MULTILINE)[1])


@pytest.fixture
async def gateways(api, redis_server, keys, tmp_path):
    arguments = [
        *("--cluster", "--port", "0", "--admin-port", "0", "--kubernetes-url", api.url),
        *("--kubernetes-token-file", "/dev/null", "--gateway-service", "system/gateway"),
        *("--access-keys-directory", str(tmp_path / "keys"), "--page", "false"),
        *("--client-requests-per-minute", str(LIMIT)),
        # A machine that is busy for a moment is no Redis that is gone.
        *("--redis-timeout-seconds", "10"),
    ]
    environment = {"MODELSERVER_REDIS_URL": redis_server.url}
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                runtime_process("modelserver_runtime", "gateway", *arguments, **environment)
            )
            for _ in range(2)
        ]
        async with httpx.AsyncClient(timeout=60) as client:
            found = [await asyncio.to_thread(Gateway, one, client) for one in started]
            for one in found:
                await _until(lambda one=one: _is_ready(one))
            yield found


async def _is_ready(gateway):
    return (await gateway.report())["ready"]


async def _until(look):
    for _ in range(1200):
        if await look():
            return
        await asyncio.sleep(0.1)
    pytest.fail("not within two minutes")


async def statuses(gateway, key, count):
    return Counter([(await gateway.ask(key)).status_code for _ in range(count)])


@contextlib.asynccontextmanager
async def crowd(gateways, key):
    """Asks all the time; gives how often each status came."""
    seen, is_over = Counter(), asyncio.Event()

    async def ask(gateway):
        while not is_over.is_set():
            seen[(await gateway.ask(key)).status_code] += 1

    async with asyncio.TaskGroup() as group:
        for one in gateways:
            group.create_task(ask(one))
        yield seen
        is_over.set()


async def more_of(seen):
    goal = seen.total() + 50
    await until(lambda: seen.total() >= goal)


async def test_while_redis_is_gone_each_gateway_allows_its_part_and_nobody_fails(
    gateways, redis_server, keys
):
    one, other = gateways
    async with crowd(gateways, keys["much"]) as seen:
        assert await statuses(one, keys["together"], 6) == {200: 6}
        assert await statuses(other, keys["together"], 6) == {200: LIMIT - 6, 429: 2}
        await more_of(seen)

        await asyncio.to_thread(redis_server.kill)
        for gateway in gateways:
            await _until(lambda gateway=gateway: _is_alone(gateway))
            assert await gateway.redis_up() == 0
            assert gateway.process.wait_for_line("Redis does not answer")
            found = await statuses(gateway, keys["apart"], LIMIT)
            assert found == {200: LIMIT // 2, 429: LIMIT // 2}
        await more_of(seen)

        await asyncio.to_thread(redis_server.start)
        for gateway in gateways:
            await _until(lambda gateway=gateway: _is_well(gateway))
            assert await gateway.redis_up() == 1
            assert gateway.process.wait_for_line("Redis answers again")
        assert await statuses(one, keys["again"], 6) == {200: 6}
        assert await statuses(other, keys["again"], 6) == {200: LIMIT - 6, 429: 2}
        await more_of(seen)
    assert set(seen) == {200}


async def _is_alone(gateway):
    """It stays ready: it serves."""
    report = await gateway.report()
    assert report["ready"]
    return any("Redis does not answer" in one for one in report["problems"])


async def _is_well(gateway):
    return not (await gateway.report())["problems"]
