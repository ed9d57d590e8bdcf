"""Addresses of hosts: looked up now and then, kept when DNS is slow or away."""

import asyncio

import pytest

from modelserver_runtime.gateway.host import Host, ask_dns
from modelserver_runtime.gateway.pool import Pool
from support.web import Upstream, serving, until


class Dns:
    """Answers when it is told to."""

    def __init__(self):
        self.asked = 0
        self.answers = ["10.0.0.1"]
        self.problem = None
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def __call__(self, _):
        self.asked += 1
        await self.is_open.wait()
        if self.problem:
            raise self.problem
        return tuple(self.answers)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def dns():
    return Dns()


@pytest.fixture
async def clock():
    return Clock()


@pytest.fixture
async def host(dns, clock):
    made = Host("chat-a1b2c3d4", clock, dns)
    yield made
    made.close()


async def test_connections_of_the_next_seconds_ask_nobody(host, dns, clock):
    for _ in range(3):
        assert await host.addresses() == ("10.0.0.1",)
    clock.now += 4.9
    assert await host.addresses() == ("10.0.0.1",)
    assert dns.asked == 1


async def test_nobody_waits_for_a_look_up_while_an_address_is_known(host, dns, clock):
    await host.addresses()
    dns.is_open.clear()
    dns.answers = ["10.0.0.2"]
    clock.now += 5.1
    for _ in range(3):
        assert await host.addresses() == ("10.0.0.1",)
    await until(lambda: dns.asked == 2)
    dns.is_open.set()
    await until(lambda: not host.is_looking)
    assert await host.addresses() == ("10.0.0.2",)
    assert dns.asked == 2


@pytest.mark.parametrize("problem", [OSError("no such name"), TimeoutError("silence")])
async def test_the_last_known_address_is_better_than_none(host, dns, clock, problem):
    await host.addresses()
    dns.problem = problem
    for _ in range(3):
        clock.now += 60
        assert await host.addresses() == ("10.0.0.1",)
        await until(lambda: not host.is_looking)
    assert dns.asked == 4


async def test_a_name_that_was_never_known_is_looked_up_for_each_connection(host, dns):
    dns.problem = OSError("no such name")
    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            await host.addresses()
    assert dns.asked == 2
    dns.problem = None
    assert await host.addresses() == ("10.0.0.1",)


async def test_those_who_ask_at_once_share_an_answer_and_who_leaves_takes_it_from_nobody(host, dns):
    dns.is_open.clear()
    asking = [asyncio.ensure_future(host.addresses()) for _ in range(3)]
    await until(lambda: dns.asked)
    asking[0].cancel()
    dns.is_open.set()
    assert await asyncio.gather(*asking[1:]) == [("10.0.0.1",)] * 2
    assert dns.asked == 1


async def test_real_names_are_looked_up():
    assert set(await ask_dns("localhost")) <= {"127.0.0.1", "::1"}
    assert await ask_dns("127.0.0.1") == ("127.0.0.1",)


async def test_each_address_of_a_name_is_tried(dns, clock):
    async with serving(Upstream("stable")) as url:
        pool = Pool(("chat-a1b2c3d4", int(url.rpartition(":")[2])), clock, dns)
        dns.answers = ["127.0.0.2", "127.0.0.1"]  # nobody listens at the first
        connection = await pool.take()
        assert connection.is_usable
        connection.close()
        pool.close()
