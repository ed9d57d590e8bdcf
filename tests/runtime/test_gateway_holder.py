"""Who asks a model that sleeps waits for it, wakes it once, and is let go as pods can take it."""

import asyncio

import pytest

from modelserver_runtime.errors import ApiRefused, ApiUnavailable
from modelserver_runtime.gateway.body import Body, ClientGone
from modelserver_runtime.gateway.cluster import (
    Address,
    Directory,
    HoldBounds,
    ServedModel,
    ServerKey,
)
from modelserver_runtime.gateway.holder import Held, Holder, Probed
from modelserver_runtime.gateway.holder.fair_queue import FairQueue
from modelserver_runtime.gateway.refusal import Refused

pytestmark = [pytest.mark.looptime]

KEY = ServerKey("models", "chat")
POD, OTHER = Address("10.0.0.1", 8080), Address("10.0.0.2", 8080)


def model(**more):
    return ServedModel(
        **{
            "key": KEY,
            "names": ("chat",),
            "revision": "abc",
            "holder_port": 20000,
            "phase": "Cold",
            "hold": HoldBounds(max_requests=5, max_bytes=1000, max_seconds=60),
            **more,
        }
    )


class Client:
    """A client that sends its body at once, and then waits."""

    def __init__(self, content=b"{}", parts=1):
        self.gone = asyncio.Event()
        self.parts = [content] * parts
        self.body = Body(self._receive)

    async def _receive(self):
        if self.parts:
            part = self.parts.pop()
            return {"type": "http.request", "body": part, "more_body": bool(self.parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}


class World:
    def __init__(self, per_pod=2, **more):
        self.woken = 0
        self.failure = None
        self.answering = set()
        self.stage = ""
        loop = asyncio.get_running_loop()
        self.holder = Holder(self, self.probe, clock=loop.time, per_pod=per_pod)
        self.tell(**more)

    def tell(self, **more):
        self.model = model(**more)
        self.holder.follow(Directory.of([self.model]))

    async def wake(self, _):
        self.woken += 1
        if self.failure is not None:
            raise self.failure
        return True

    async def probe(self, address):
        return Probed(is_ready=address in self.answering, stage=self.stage)

    async def ask(self, caller="a", client=None, **more):
        client = client or Client()
        await client.body.read_ahead()
        await self.holder.wait(self.model, Held(caller=caller, body=client.body, **more))

    def asking(self, *callers, **more):
        return [asyncio.create_task(self.ask(caller, **more)) for caller in callers]

    @property
    def room(self):
        return self.holder.rooms[KEY]


@pytest.fixture
async def world():
    made = World()
    yield made
    made.holder.close()


async def a_while(seconds=1.0):
    await asyncio.sleep(seconds)


def done(tasks):
    return [task.done() for task in tasks]


async def end_of(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_requests_wake_a_model_once(world):
    asked = world.asking("a", "b", "c")
    await a_while()
    assert world.woken == 1
    assert world.room.requests == 3
    await end_of(asked)


async def test_a_pod_is_asked_itself_before_anybody_is_let_go(world):
    [asked] = world.asking("a")
    world.tell(starting=(POD,), phase="Waking")
    await a_while()
    assert not asked.done()
    world.answering = {POD}
    await asked
    assert world.holder.pods(world.model) == (POD,)


async def test_a_pod_that_is_said_to_be_ready_and_does_not_answer_lets_nobody_go(world):
    [asked] = world.asking("a")
    await a_while(0.1)
    world.tell(ready=(POD,))
    await a_while()
    assert not asked.done()
    world.answering = {POD}
    await asked


async def test_who_waited_is_let_go_as_pods_can_take_them_and_callers_take_turns(world):
    asked = dict(zip("abcde", world.asking("x", "x", "x", "y", "z"), strict=True))
    await a_while()
    world.answering = {POD}
    world.tell(ready=(POD,))
    await a_while()
    assert {name for name, task in asked.items() if task.done()} == {"a", "d"}
    world.holder.done(world.model)
    await a_while()
    assert {name for name, task in asked.items() if task.done()} == {"a", "d", "e"}
    world.answering |= {OTHER}
    world.tell(ready=(POD, OTHER))
    await a_while()
    assert all(done(asked.values()))


async def test_the_wake_up_goes_on_when_the_client_has_left(world):
    client = Client()
    [asked] = world.asking("a", client=client)
    await a_while(0.1)
    client.gone.set()
    with pytest.raises(ClientGone):
        await asked
    world.tell(starting=(POD,), phase="Waking")
    world.answering = {POD}
    await a_while()
    assert not world.holder.is_needed(world.model)
    assert world.room.held_bytes == 0


async def test_nobody_waits_longer_than_the_model_allows_or_the_client(world):
    loop = asyncio.get_running_loop()
    asked = world.asking("a", seconds=10.0) + world.asking("b")
    with pytest.raises(Refused) as refused:
        await asked[0]
    assert loop.time() == pytest.approx(10, abs=0.5)
    assert (refused.value.answer.status, refused.value.answer.code) == (503, "hold_timeout")
    assert refused.value.answer.retry_after_seconds == pytest.approx(10, abs=0.5)
    with pytest.raises(Refused):
        await asked[1]
    assert loop.time() == pytest.approx(60, abs=0.5)


async def test_who_cannot_wait_long_enough_is_told_at_once_and_wakes_the_model_all_the_same(world):
    world.tell(cold_start_seconds=40.0)
    with pytest.raises(Refused) as refused:
        await world.ask(seconds=5.0)
    assert asyncio.get_running_loop().time() < 1
    assert refused.value.answer.retry_after_seconds == 40
    await a_while()
    assert world.woken == 1


@pytest.mark.parametrize(
    ("clients", "more"),
    [(6, {}), (2, {"announced_bytes": 600}), (1, {"announced_bytes": 2000})],
)
async def test_beyond_its_bounds_nobody_is_held(world, clients, more):
    asked = [
        asyncio.create_task(world.ask("a", Client(b"x" * (500 if more else 1)), **more))
        for _ in range(clients)
    ]
    await a_while()
    assert done(asked) == [False] * (clients - 1) + [True]
    with pytest.raises(Refused) as refused:
        await asked[-1]
    assert (refused.value.answer.status, refused.value.answer.code) == (429, "hold_full")
    assert refused.value.answer.retry_after_seconds >= 1
    await end_of(asked)
    assert world.room.held_bytes == 0


async def test_a_body_that_grows_beyond_the_bound_is_refused(world):
    with pytest.raises(Refused) as refused:
        await world.ask("a", Client(b"x" * 400, parts=3))
    assert refused.value.answer.code == "hold_full"
    assert world.room.held_bytes == 0


async def test_without_the_right_to_wake_nobody_waits_in_vain(world):
    world.failure = ApiRefused("deployments/scale is forbidden")
    with pytest.raises(Refused) as refused:
        await world.ask()
    assert (refused.value.answer.status, refused.value.answer.code) == (503, "wake_refused")
    assert refused.value.answer.retry_after_seconds >= 1
    assert asyncio.get_running_loop().time() < 1


async def test_while_the_api_server_is_away_the_wake_up_is_tried_again(world):
    world.failure = ApiUnavailable("away")
    [asked] = world.asking("a")
    await a_while(5)
    assert world.woken > 1
    assert not asked.done()
    world.failure = None
    world.tell(starting=(POD,), phase="Waking")
    world.answering = {POD}
    await asked


@pytest.mark.parametrize("how", ["deleted", "failed"])
async def test_who_waits_for_what_will_not_come_is_told(world, how):
    [asked] = world.asking("a")
    await a_while()
    if how == "deleted":
        world.holder.follow(Directory())
    else:
        world.tell(problem="the model's files are corrupt")
    with pytest.raises(Refused) as refused:
        await asked
    assert refused.value.answer.code == {"deleted": "model_not_found"}.get(how, "model_failed")


async def test_a_server_that_may_not_sleep_is_waited_for_and_not_woken(world):
    world.tell(holder_port=None, phase="")
    [asked] = world.asking("a")
    await a_while(5)
    assert world.woken == 0
    world.tell(holder_port=None, ready=(POD,))
    world.answering = {POD}
    await asked


async def test_the_next_retry_after_knows_how_long_a_start_took(world):
    [asked] = world.asking("a")
    await a_while(20)
    world.tell(ready=(POD,))
    world.answering = {POD}
    await asked
    world.holder.done(world.model)
    world.answering = set()
    world.tell()
    with pytest.raises(Refused) as refused:
        await world.ask(seconds=2.0)
    assert refused.value.answer.retry_after_seconds == pytest.approx(20, abs=1)


async def test_when_the_gateway_ends_all_are_told_to_ask_another_one(world):
    asked = world.asking("a", "b")
    await a_while()
    world.holder.refuse_all()
    for one in asked:
        with pytest.raises(Refused) as refused:
            await one
        assert refused.value.answer.code == "gateway_ending"


async def test_a_request_that_was_let_go_and_cancelled_gives_its_place_back():
    world = World(per_pod=1)
    first, second = world.asking("a", "b")
    await a_while()
    world.answering = {POD}
    world.tell(ready=(POD,))
    await first
    world.holder.done(world.model)
    await second
    assert world.room.answering == 1
    world.holder.done(world.model)
    assert world.room.is_idle


def test_lines_take_turns():
    queue = FairQueue()
    for caller, item in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]:
        queue.put(caller, item)
    queue.remove("c", 5)
    queue.remove("c", 5)
    assert [queue.take() for _ in range(len(queue))] == [1, 4, 2, 6, 3]
    with pytest.raises(IndexError):
        queue.take()
