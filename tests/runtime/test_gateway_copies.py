"""What a model server makes of the copies that a router sends it."""

import contextlib
import time

import httpx
import pytest

from modelserver_runtime.app.application import create_asgi, create_context
from modelserver_runtime.settings import Settings

ROUTER = "10.0.0.9"
COPY = {"x-modelserver-shadow": "true"}
TOO_MANY = 429


@contextlib.asynccontextmanager
async def server(**settings):
    """Without a model, which limits and counts do not need; the router's address asks."""
    made = Settings(name="chat", revision="r1", address_requests_per_minute=2, **settings)
    context = create_context(made, clock=time.monotonic, wall_clock=time.time)
    transport = httpx.ASGITransport(create_asgi(context), client=(ROUTER, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        yield context, client
    await context.close()


async def ask(client, times, headers):
    answers = [await client.post("/v1/embeddings", json={}, headers=headers) for _ in range(times)]
    return [one.status_code for one in answers]


async def test_copies_of_a_trusted_router_use_up_nobodys_limits():
    async with server(trusted_proxies=[ROUTER]) as (_, client):
        assert TOO_MANY not in await ask(client, 5, COPY)
        assert TOO_MANY not in await ask(client, 2, {})
        assert await ask(client, 1, {}) == [TOO_MANY]


@pytest.mark.parametrize("trusted", [[], ["10.0.0.8"]])
async def test_nobody_else_escapes_his_limits_by_calling_himself_a_copy(trusted):
    async with server(trusted_proxies=trusted) as (_, client):
        assert (await ask(client, 3, COPY))[-1] == TOO_MANY


async def test_copies_are_counted_apart():
    async with server(trusted_proxies=[ROUTER]) as (context, client):
        await ask(client, 3, COPY)
        await ask(client, 1, {})
        registry = context.telemetry.registry
        found = {
            metric.name: sum(
                sample.value
                for sample in metric.samples
                if sample.name.endswith(("total", "_count"))
            )
            for metric in registry.collect()
        }
    assert found["modelserver_shadow_requests"] == 3
    assert found["modelserver_requests"] == 1
    assert found["modelserver_request_duration_seconds"] == 1
