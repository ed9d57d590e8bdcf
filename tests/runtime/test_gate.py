"""The gate in simulated time: turns, refusals with times to come back, circuits, watchdog."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from modelserver_runtime.engine.breaker import Breaker, BreakerLimits, CircuitState
from modelserver_runtime.engine.gate import CONSTRAINED, Gate
from modelserver_runtime.engine.queue import QueueLimits
from modelserver_runtime.engine.request import Priority, Ticket
from modelserver_runtime.engine.turns import Turns
from modelserver_runtime.engine.watchdog import Watchdog, WatchdogLimits
from modelserver_runtime.engine.worker import Heartbeat
from modelserver_runtime.errors import (
    BackendFailure,
    CircuitOpen,
    DeadlineUnreachable,
    FailureClass,
    InvalidRequest,
    NotReady,
    Overloaded,
    QueueTimeout,
)
from modelserver_runtime.telemetry import ModelTelemetry, Telemetry

pytestmark = pytest.mark.looptime

LIMITS = BreakerLimits(failures=2, open_seconds=60, probes=1)


def now() -> float:
    return asyncio.get_running_loop().time()


class World:
    """A gate whose requests take as many seconds as they cost; it notes who was inside when."""

    def __init__(self, *, places: int = 1, waiting: int = 10, turns: Turns | None = None) -> None:
        self.telemetry: ModelTelemetry = Telemetry().of("test", "test")
        limits = QueueLimits(max_waiting=waiting, ageing_seconds=5)
        self.turns = turns or Turns(places=places, limits=limits, clock=now)
        self.gate = Gate(
            self.turns,
            Breaker(LIMITS),
            queue_timeout_seconds=30,
            telemetry=self.telemetry,
            clock=now,
        )
        self.order: list[str] = []

    def ticket(self, name: str = "", seconds: float = 1000, **more: Any) -> Ticket:
        return Ticket(arrived=now(), deadline=now() + seconds, tenant=name, **more)

    async def visit(
        self, name: str = "", cost: float = 1, *, takes: float | None = None, **more: Any
    ) -> float:
        """When it began."""
        async with self.gate.enter(self.ticket(name, **more), cost=cost) as visit:
            self.order.append(name)
            began = now()
            await asyncio.sleep(cost if takes is None else takes)
            visit.succeed(cost)
            return began

    def start(self, *args: Any, **more: Any) -> "asyncio.Task[float]":
        return asyncio.ensure_future(self.visit(*args, **more))

    async def train(self) -> None:
        for cost in (1, 2, 1, 2, 1, 2, 1, 2, 1, 2):
            await self.visit(cost=cost)
        self.order.clear()

    async def fail(self, failure: Exception, **more: Any) -> None:
        async with self.gate.enter(self.ticket(), cost=1, **more) as visit:
            visit.fail(failure)

    def metric(self, name: str) -> dict[tuple[str, ...], float]:
        telemetry: Any = self.telemetry
        families = telemetry._refusals, telemetry._queue_depth, telemetry._circuits
        return {
            tuple(sample.labels.values())[2:]: sample.value
            for family in families
            for metric in family.collect()
            for sample in metric.samples
            if sample.name == name
        }


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_finds_a_place_does_not_wait_and_the_others_wait_for_one():
    world = World(places=2)
    tasks = [world.start(str(n), 10) for n in range(5)]
    assert await asyncio.gather(*tasks) == [0, 0, 10, 10, 20]
    assert world.gate.inside == world.gate.waiting == 0
    assert world.turns.free == 2


async def test_without_a_queue_there_are_places_but_nobody_waits_for_one():
    world = World(waiting=0)
    first = world.start("first", 10)
    await settle()
    with pytest.raises(Overloaded):
        await world.visit()
    await first
    await world.visit()


async def test_the_urgent_go_first_and_tenants_take_turns():
    world = World()
    first = world.start("first", 10)
    await settle()
    rest = [world.start(name, 1) for name in ("a", "a", "b")]
    rest += [world.start("urgent", 1, priority=Priority.HIGH)]
    await asyncio.gather(first, *rest)
    assert world.order == ["first", "urgent", "a", "b", "a"]


async def test_too_many_are_refused_and_each_is_told_of_another_place():
    """Turns end 4 s from now and then every 10 s; who comes back then finds a place."""
    world = World(waiting=2)
    await world.visit(cost=10)
    tasks = [world.start("x", 10) for _ in range(3)]
    await asyncio.sleep(6)
    waits = []
    for _ in range(3):
        with pytest.raises(Overloaded, match="2 requests wait already") as refused:
            await world.visit("y", 10)
        waits.append(refused.value.retry_after_seconds)
    assert waits == pytest.approx([4, 14, 24])
    assert world.metric("modelserver_refusals_total") == {("queue_full",): 3}
    await asyncio.sleep(4.1)
    late = world.start("y", 10)
    await asyncio.gather(*tasks, late)


async def test_low_work_gives_its_place_to_others_when_the_queue_is_full():
    world = World(waiting=1)
    running, low = world.start("r", 10), world.start("low", priority=Priority.LOW)
    await settle()
    other = world.start("n", 1)
    with pytest.raises(Overloaded, match="more urgent"):
        await low
    await asyncio.gather(running, other)
    assert world.order == ["r", "n"]


async def test_a_deadline_that_cannot_be_met_is_refused_at_once_and_met_when_told():
    world = World()
    await world.train()
    running = [world.start("r", 10), world.start("r", 10)]
    await asyncio.sleep(4)
    with pytest.raises(DeadlineUnreachable) as refused:
        await world.visit("y", 5, seconds=12)
    wait = refused.value.retry_after_seconds
    assert wait == pytest.approx(16 + 5 - 12, abs=0.01)
    await asyncio.sleep(wait - 0.1)
    with pytest.raises(DeadlineUnreachable):
        await world.visit("y", 5, seconds=12)
    await asyncio.sleep(0.2)
    asked = now()
    assert await world.visit("y", 5, seconds=12) + 5 <= asked + 12
    await asyncio.gather(*running)


async def test_an_idle_model_is_tried_even_if_it_seems_too_slow_and_nobody_is_refused_untrained():
    world = World()
    await asyncio.gather(world.start(cost=20), world.start(cost=1, seconds=25))
    await world.train()
    await world.visit(cost=100, seconds=20, takes=1)


async def test_a_turn_that_does_not_come_in_time_is_a_failure_that_may_be_tried_again():
    world = World()
    running = world.start("r", 100)
    await settle()
    began = now()
    with pytest.raises(QueueTimeout, match=r"waited 30\.0 s") as failure:
        await world.visit("late")
    assert now() - began == pytest.approx(30)
    assert failure.value.should_retry
    with pytest.raises(QueueTimeout, match=r"waited 2\.0 s"):
        await world.visit("later", seconds=2)
    assert world.metric("modelserver_refusals_total") == {("queue_timeout",): 2}
    await running
    assert world.turns.waiting == 0


async def test_whose_time_is_over_before_it_waits_is_told_so():
    world = World()
    first = world.start("first", 5)
    await settle()
    with pytest.raises(QueueTimeout):
        await asyncio.wait_for(world.visit("late", seconds=0), timeout=60)
    assert now() < 5
    assert world.gate.waiting == 0
    await first


async def test_cancelled_ones_vanish_and_leave_no_place_taken():
    world = World()
    tasks = [world.start(str(n), 10) for n in range(4)]
    await asyncio.sleep(1)
    for task in tasks[:3]:
        task.cancel()
    assert await tasks[3] == 1
    assert world.order == ["0", "3"]
    assert (world.turns.free, world.turns.waiting, world.gate.inside) == (1, 0, 0)


async def test_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on():
    world = World()
    first, second, third = (world.start(str(n), 10) for n in range(3))
    await settle()
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    assert await third == 0
    await asyncio.gather(first, second, return_exceptions=True)
    assert world.turns.free == 1


async def test_a_wide_request_is_given_what_is_free_and_hands_it_over_when_others_wait():
    world = World(places=4)
    async with world.gate.enter(world.ticket("wide"), cost=8, units=100) as visit:
        assert visit.turn.units == 4
        waiting = world.start("w", 1)
        await settle()
        assert visit.turn.is_wanted
        visit.turn.shrink(100)
        assert visit.turn.units == 1
        assert await waiting == 0
        assert visit.turn.grow(2) == 3
        visit.turn.release()
        visit.turn.release()
    assert world.turns.free == 4


async def test_models_that_share_their_turns_wait_in_one_queue():
    one = World()
    other = World(turns=one.turns)
    assert await asyncio.gather(one.start(cost=5), other.start(cost=5), one.start(cost=5)) == [
        *(0, 5, 10)
    ]
    other.gate.close("gone")
    await one.visit()


async def test_a_closed_gate_refuses_those_who_come_and_those_who_wait():
    world = World()
    running, waiting = world.start("r", 10), world.start("w")
    await settle()
    world.gate.close("The model has died")
    for attempt in (waiting, world.start("n")):
        with pytest.raises(NotReady, match="has died"):
            await attempt
    await running


async def test_failures_open_the_circuit_send_the_waiting_away_and_probes_close_it():
    world = World()
    running, waiting = world.start("r", 10), world.start("w")
    await settle()
    permits = [world.gate.breaker.admit(frozenset(FailureClass), now()) for _ in range(2)]
    for permit in permits:
        world.gate.note_failure(permit, BackendFailure("no"))
    with pytest.raises(CircuitOpen, match="again and again"):
        await waiting
    with pytest.raises(CircuitOpen, match="for 60 s") as refused:
        await world.visit()
    assert refused.value.retry_after_seconds == 60
    assert refused.value.should_retry
    assert world.metric("modelserver_circuit_state")[("backend_error",)] == 2
    await running
    await asyncio.sleep(60)
    probe = world.start("probe", 5)
    await settle()
    with pytest.raises(CircuitOpen):
        await world.visit()
    await probe
    await world.visit()
    assert world.metric("modelserver_circuit_state")[("backend_error",)] == 0


async def test_what_is_the_clients_fault_opens_nothing_and_a_grammar_only_its_own_circuit():
    world = World()
    for _ in range(5):
        await world.fail(InvalidRequest("wrong"))
    for _ in range(2):
        failure = BackendFailure("grammar", failure_class=FailureClass.GRAMMAR)
        await world.fail(failure, concerned=CONSTRAINED)
    await world.visit()
    with pytest.raises(CircuitOpen, match="grammars"):
        await world.fail(InvalidRequest("wrong"), concerned=CONSTRAINED)


async def test_statistics_tell_who_waits_since_when_and_what_became_of_the_others():
    world = World(waiting=2)
    await world.train()
    tasks = [world.start("a", 10), world.start("a", 2), world.start("b", 2, priority=Priority.LOW)]
    await asyncio.sleep(4)
    with pytest.raises(Overloaded):
        await world.visit("b", 1, priority=Priority.LOW)
    stats = world.gate.statistics()
    assert (stats.places, stats.running) == (1, 1)
    normal, low = (each for each in stats.priorities if each.priority in {"NORMAL", "LOW"})
    assert (normal.waiting, normal.oldest_seconds) == (1, 4)
    assert normal.predicted_wait_seconds == pytest.approx(6 + stats.typical_seconds, rel=0.3)
    tenants = {(each.tenant, each.waiting, each.admitted, each.refused) for each in low.tenants}
    assert tenants == {("b", 1, 0, 1)}
    assert world.metric("modelserver_queue_depth")[("NORMAL",)] == 1
    await asyncio.gather(*tasks)
    assert world.metric("modelserver_queue_depth")[("NORMAL",)] == 0


class StuckWorker:
    """What a watchdog sees of a worker."""

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()
        self.died = asyncio.Event()
        self.died_because = ""
        self.is_alive = True

    def give_up(self, reason: str) -> None:
        self.died_because = reason
        self.is_alive = False

    def stop(self, timeout_seconds: float) -> None:
        """Nothing to stop."""


def watched(world: World) -> StuckWorker:
    worker = StuckWorker()
    Watchdog(worker, world.gate, WatchdogLimits(step_seconds=10, exit_seconds=20), now).start()
    return worker


async def test_a_stuck_step_closes_the_way_until_it_ends():
    world = World()
    worker = watched(world)
    worker.heartbeat.step_began = now()
    await asyncio.sleep(9)
    assert world.gate.circuits()[FailureClass.STEP_TIMEOUT] is CircuitState.CLOSED
    await asyncio.sleep(3)
    with pytest.raises(CircuitOpen, match="does not come to an end"):
        await world.visit()
    worker.heartbeat.step_began = None
    await asyncio.sleep(2)
    await world.visit()
    assert worker.is_alive
    worker.is_alive = False


async def test_a_step_that_is_stuck_for_good_gives_the_worker_up():
    world = World()
    worker = watched(world)
    worker.heartbeat.step_began = now()
    await asyncio.sleep(29)
    assert worker.is_alive
    await asyncio.sleep(3)
    assert not worker.is_alive
    assert "has not come back for 3" in worker.died_because


def best_of(rounds: int, function: Callable[[], None]) -> float:
    """Seconds of processor time of the fastest one: the machine may be busy with others."""
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        function()
        times.append(time.thread_time() - began)
    return min(times)


def test_an_uncontended_turn_costs_microseconds():
    """20 on an idle machine; here twice that, so that only a real change fails."""

    async def thousand(world: World) -> None:
        for _ in range(1000):
            async with world.gate.enter(world.ticket(), cost=1) as visit:
                visit.succeed(1)

    def run() -> None:
        with asyncio.Runner() as runner:

            async def main() -> None:
                await thousand(World(places=4))

            runner.run(main())

    assert best_of(7, run) < 1000 * 40e-6
