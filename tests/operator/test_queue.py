"""The work queue and the workers, in simulated time."""

import asyncio

import pytest

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.errors import Conflict, NotLeading, Unavailable
from modelserver_operator.reconciler.queue import LONGEST_RETRY_SECONDS, WorkQueue
from modelserver_operator.reconciler.reconciler import Verdict
from modelserver_operator.reconciler.workers import (
    FREE_PASSES,
    PAUSE_SECONDS,
    WINDOW_SECONDS,
    Throttle,
    Workers,
)

pytestmark = pytest.mark.looptime

KEY = ObjectName("default", "chat")


def now():
    return asyncio.get_running_loop().time()


async def test_a_key_added_twice_is_handed_out_once():
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert queue.depth == 0


async def test_keys_come_in_the_order_in_which_they_were_added():
    queue = WorkQueue()
    for key in "bca":
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["b", "c", "a"]


async def test_a_key_added_while_it_is_processed_comes_again_but_not_meanwhile():
    queue = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 10)
    queue.done("a")
    assert await queue.get() == "a"


async def test_what_has_been_looked_at_already_does_not_bring_the_key_back():
    queue = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.absorb("a")
    queue.done("a")
    assert queue.depth == 0


async def test_a_cancelled_get_loses_no_key():
    queue = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await queue.get() == "a"


async def test_a_deadline_puts_the_key_into_the_line():
    queue = WorkQueue()
    queue.add_after("a", 5)
    assert await queue.get() == "a"
    assert now() == 5


async def test_the_earlier_of_two_deadlines_counts():
    queue = WorkQueue()
    queue.add_after("a", 5)
    queue.add_after("a", 50)
    queue.add_after("a", 2)
    assert await queue.get() == "a"
    queue.done("a")
    assert now() == 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 100)


async def test_taking_a_key_forgets_its_deadline():
    queue = WorkQueue()
    queue.add_after("a", 5)
    queue.add("a")
    await queue.get()
    queue.done("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 100)


async def test_retries_take_longer_and_longer_up_to_a_limit():
    queue = WorkQueue()
    delays = []
    for _ in range(15):
        delays.append(queue.retry("a"))
        await queue.get()
        queue.done("a")
    assert delays[0] < 0.3
    assert all(later > earlier for earlier, later in zip(delays[:6:2], delays[2:8:2], strict=True))
    assert max(delays) <= LONGEST_RETRY_SECONDS


async def test_a_success_makes_the_next_retry_short_again():
    queue = WorkQueue()
    for _ in range(8):
        queue.retry("a")
    queue.succeeded("a")
    assert queue.retrying == 0
    assert queue.retry("a") < 0.3


async def test_a_retry_waits_at_least_as_long_as_the_server_asked():
    queue = WorkQueue()
    assert queue.retry("a", at_least=7) == 7


async def test_many_failures_together_do_not_come_back_together():
    queue = WorkQueue()
    delays = {queue.retry(key) for key in range(50)}
    assert len(delays) > 40


async def test_the_oldest_key_tells_how_late_we_are():
    queue = WorkQueue()
    queue.add("a")
    await asyncio.sleep(3)
    queue.add("b")
    assert queue.oldest_seconds() == 3
    await queue.get()
    assert queue.oldest_seconds() == 0


async def test_a_closed_queue_lets_every_worker_go():
    queue = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add("left behind")
    queue.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 1) == [None, None, None]


class Record:
    def __init__(self):
        self.results = []

    def reconciled(self, result, _seconds):
        self.results.append(result)


async def work(queue, reconcile, *, seconds, concurrency=2):
    record = Record()
    workers = Workers(queue, reconcile, record, concurrency=concurrency)
    running = asyncio.create_task(workers.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return record.results


async def test_a_plan_that_waits_is_looked_at_again_at_its_deadline():
    times = []

    async def reconcile(_key):
        times.append(now())
        return Verdict(again_after_seconds=4 if len(times) == 1 else None)

    queue = WorkQueue()
    queue.add(KEY)
    assert await work(queue, reconcile, seconds=60) == ["settled", "settled"]
    assert times == [0, 4]


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (Conflict("changed"), "Conflict"),
        (Unavailable("down", status=503), "Unavailable"),
        (ZeroDivisionError("a bug"), "Bug"),
    ],
)
async def test_what_fails_is_tried_again_until_it_works(failure, result):
    failures = [failure, failure]

    async def reconcile(_key):
        if failures:
            raise failures.pop()
        return Verdict()

    queue = WorkQueue()
    queue.add(KEY)
    assert await work(queue, reconcile, seconds=10) == [result, result, "settled"]


async def test_a_server_that_says_when_to_come_back_is_obeyed():
    times = []

    async def reconcile(_key):
        times.append(now())
        if len(times) == 1:
            raise Unavailable("too many requests", status=429, retry_after_seconds=7)
        return Verdict()

    queue = WorkQueue()
    queue.add(KEY)
    await work(queue, reconcile, seconds=60)
    assert times == [0, 7]


async def test_what_the_leader_should_do_is_not_tried_again_here():
    async def reconcile(_key):
        raise NotLeading

    queue = WorkQueue()
    queue.add(KEY)
    assert await work(queue, reconcile, seconds=600) == ["NotLeading"]


async def test_one_failing_key_does_not_hold_up_the_others():
    done = []

    async def reconcile(key):
        if key.name == "bad":
            raise ZeroDivisionError
        done.append(key.name)
        return Verdict()

    queue = WorkQueue()
    for name in ("bad", "one", "two"):
        queue.add(ObjectName("default", name))
    await work(queue, reconcile, seconds=30, concurrency=1)
    assert done == ["one", "two"]


async def test_a_war_with_somebody_who_undoes_our_writes_is_slow():
    """Each of our writes is undone at once, and that event brings the key back."""
    queue = WorkQueue()
    writes = []

    async def reconcile(key):
        writes.append(now())
        queue.add(key)
        return Verdict(wrote=True)

    queue.add(KEY)
    await work(queue, reconcile, seconds=600)
    most = FREE_PASSES + WINDOW_SECONDS / PAUSE_SECONDS
    for begin in writes:
        assert sum(begin <= at < begin + WINDOW_SECONDS for at in writes) <= most


def test_a_key_that_has_rested_may_write_freely_again():
    throttle = Throttle()
    for _ in range(FREE_PASSES):
        assert throttle.wait_seconds(KEY, 100) == 0
        throttle.wrote(KEY, 100)
    assert throttle.wait_seconds(KEY, 101) == PAUSE_SECONDS - 1
    assert throttle.wait_seconds(KEY, 101 + WINDOW_SECONDS) == 0


async def test_writes_that_follow_from_decisions_of_our_own_are_no_war():
    """A rollout of many steps writes more often than anybody undoes what we write."""
    queue = WorkQueue()
    queue.add(KEY)
    verdicts = [Verdict(wrote=True), Verdict(wrote=True, decided=True, again_after_seconds=0.0)]
    times = []

    async def reconcile(key):
        times.append(now())
        verdict = verdicts[len(times) % 2]
        if len(times) < 4 * FREE_PASSES and not verdict.decided:
            queue.add(key)
        return verdict if len(times) < 4 * FREE_PASSES else Verdict()

    await work(queue, reconcile, seconds=5)
    assert len(times) == 4 * FREE_PASSES


async def test_what_was_decided_is_carried_out_at_once():
    queue = WorkQueue()
    queue.add(KEY)
    verdicts = [Verdict(decided=True, again_after_seconds=0.0), Verdict(wrote=True), Verdict()]
    times = []

    async def reconcile(_key):
        times.append(now())
        return verdicts.pop(0)

    assert await work(queue, reconcile, seconds=5) == ["decided", "wrote"]
    assert times == [0, 0]
