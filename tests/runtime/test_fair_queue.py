"""The queue: bounded, fair by cost, first come first served inside a tenant, nobody starves."""

import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelserver_runtime.engine.queue import Entry, FairQueue, QueueLimits
from modelserver_runtime.engine.request import Priority

FAR = 1e9
LOW, NORMAL, HIGH, CRITICAL = Priority


def an_entry(
    tenant: str = "", priority: Priority = NORMAL, *, cost: float = 1, now: float = 0, **more: float
) -> Entry:
    return Entry(
        priority=priority,
        tenant=tenant,
        cost=cost,
        arrived=now,
        expires=more.get("expires", FAR),
        units=int(more.get("units", 1)),
    )


def a_queue(max_waiting: int = 100, ageing_seconds: float = FAR) -> FairQueue:
    return FairQueue(QueueLimits(max_waiting=max_waiting, ageing_seconds=ageing_seconds))


def filled(queue: FairQueue, *entries: Entry) -> FairQueue:
    for entry in entries:
        assert queue.push(entry) is None
    return queue


def drained(queue: FairQueue, *, now: float = 0) -> list[Entry]:
    return list(iter(lambda: queue.pop(now, 1), None))


def test_the_higher_priority_goes_first():
    entries = [an_entry(priority=priority) for priority in (NORMAL, LOW, CRITICAL, HIGH)]
    order = [entry.priority for entry in drained(filled(a_queue(), *entries))]
    assert order == [CRITICAL, HIGH, NORMAL, LOW]


def test_tenants_take_turns_however_much_one_of_them_sends():
    greedy, modest = [an_entry("a") for _ in range(4)], [an_entry("b") for _ in range(2)]
    order = [entry.tenant for entry in drained(filled(a_queue(), *greedy, *modest))]
    assert order == ["a", "b", "a", "b", "a", "a"]


def test_a_tenant_with_long_requests_has_fewer_turns():
    long, short = [an_entry("l", cost=4) for _ in range(3)], [an_entry("s") for _ in range(8)]
    order = "".join(entry.tenant for entry in drained(filled(a_queue(), *long, *short)))
    assert order == "lsssslssssl"


def test_a_turn_that_took_longer_than_was_thought_is_paid_later():
    queue = filled(a_queue(), *[an_entry(name) for name in "aabb" for _ in range(2)])
    queue.charge(queue.pop(0, 1), 10)
    assert [entry.tenant for entry in drained(queue)] == ["b", "b", "b", "b", "a", "a", "a"]


def test_a_tenant_that_was_away_has_not_saved_up_turns():
    queue = filled(a_queue(), *[an_entry("a") for _ in range(20)])
    for _ in range(10):
        queue.pop(0, 1)
    filled(queue, *[an_entry("b") for _ in range(10)])
    order = [entry.tenant for entry in drained(queue)]
    assert order[:6].count("a") >= 2


def test_what_was_given_while_nobody_else_waited_is_not_held_against_a_tenant():
    queue = a_queue()
    for _ in range(50):
        filled(queue, an_entry("a", cost=9)).pop(0, 1)
    filled(queue, *[an_entry(name) for name in "bab"])
    assert [entry.tenant for entry in drained(queue)] == ["b", "a", "b"]


def test_a_class_that_gets_nothing_overtakes_after_a_while_and_then_stands_back_again():
    queue = filled(a_queue(ageing_seconds=10), *[an_entry(priority=LOW, now=0) for _ in range(3)])
    turns = []
    for now in range(60):
        filled(queue, an_entry(priority=CRITICAL, now=now))
        turns.append(queue.pop(now, 1).priority)
    low = [now for now, priority in enumerate(turns) if priority is LOW]
    assert len(low) == 1
    assert 30 <= low[0] <= 33


@pytest.mark.parametrize(
    ("inside", "newcomer", "leaves"),
    [
        ((NORMAL, HIGH), CRITICAL, "newcomer"),
        ((LOW, NORMAL), LOW, "newcomer"),
        ((LOW, NORMAL), NORMAL, 0),
        ((LOW, NORMAL), CRITICAL, 0),
        ((LOW, LOW), HIGH, 1),
        ((NORMAL, LOW), HIGH, 1),
    ],
)
def test_only_low_work_gives_its_place_to_others_when_the_queue_is_full(inside, newcomer, leaves):
    entries = [an_entry(priority=priority, now=at) for at, priority in enumerate(inside)]
    queue, late = filled(a_queue(2), *entries), an_entry(priority=newcomer, now=9)
    assert queue.push(late) is (late if leaves == "newcomer" else entries[leaves])
    assert len(queue) == 2


def test_one_that_needs_many_places_is_not_overtaken_by_one_that_needs_few():
    queue = filled(a_queue(), an_entry("a", units=4), an_entry("b"))
    assert queue.pop(0, 3) is None
    assert queue.pop(0, 4).units == 4
    assert queue.pop(0, 1).tenant == "b"


def test_entries_leave_when_their_time_is_over():
    queue = filled(a_queue(), *[an_entry(expires=at) for at in (5, 3, 9)])
    assert queue.next_expiry == 3
    assert [entry.expires for entry in queue.expire(2.9)] == []
    assert sorted(entry.expires for entry in queue.expire(5)) == [3, 5]
    assert queue.next_expiry == 9
    assert [entry.expires for entry in drained(queue)] == [9]


def test_the_work_before_a_new_entry_counts_of_others_no_more_than_is_their_turn():
    queue = filled(
        a_queue(),
        *[an_entry("a", cost=2) for _ in range(10)],
        *[an_entry("b", cost=2) for _ in range(2)],
        an_entry("c", HIGH, cost=7),
        an_entry("d", LOW, cost=100),
    )
    assert queue.work_before(NORMAL, "new") == 7 + 2 + 2
    assert queue.work_before(NORMAL, "b") == 7 + 4 + 6
    assert queue.work_before(NORMAL, "a") == 7 + 20 + 4
    assert queue.work_before(CRITICAL, "new") == 0


costs = st.floats(min_value=0.1, max_value=10)
tenants = st.sampled_from("abc")


class QueueMachine(RuleBasedStateMachine):
    """Everything that goes in comes out once: by its turn, displaced, expired or removed."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = a_queue(8, ageing_seconds=5)
        self.now = 0.0
        self.inside: list[Entry] = []

    @rule(tenant=tenants, priority=st.sampled_from(Priority), cost=costs, patience=costs)
    def push(self, tenant: str, priority: Priority, cost: float, patience: float) -> None:
        entry = an_entry(tenant, priority, cost=cost, now=self.now, expires=self.now + patience)
        gone = self.queue.push(entry)
        self.inside.append(entry)
        if gone is not None:
            assert len(self.inside) == 9
            assert gone is entry or (gone.priority is LOW and entry.priority > LOW)
            self.inside.remove(gone)

    @rule()
    def pop(self) -> None:
        entry = self.queue.pop(self.now, 1)
        assert (entry is None) == (not self.inside)
        if entry is not None:
            alike = [
                other
                for other in self.inside
                if (other.tenant, other.priority) == (entry.tenant, entry.priority)
            ]
            assert entry is alike[0]
            self.inside.remove(entry)

    @rule(index=st.integers(0, 7))
    def cancel(self, index: int) -> None:
        if index < len(self.inside):
            entry = self.inside.pop(index)
            assert self.queue.remove(entry)
            assert not self.queue.remove(entry)

    @rule(seconds=costs)
    def wait(self, seconds: float) -> None:
        self.now += seconds
        expired = self.queue.expire(self.now)
        assert set(expired) == {entry for entry in self.inside if entry.expires <= self.now}
        self.inside = [entry for entry in self.inside if entry not in expired]

    @rule(cost=st.floats(-5, 5), tenant=tenants, priority=st.sampled_from(Priority))
    def charge(self, cost: float, tenant: str, priority: Priority) -> None:
        self.queue.charge(an_entry(tenant, priority), cost)

    @invariant()
    def it_holds_what_it_should(self) -> None:
        assert set(self.queue) == set(self.inside)
        assert len(self.queue) == len(self.inside) <= 8
        earliest = min((entry.expires for entry in self.inside), default=float("inf"))
        assert self.queue.next_expiry <= earliest


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@given(st.lists(st.lists(costs, min_size=5, max_size=30), min_size=2, max_size=5))
def test_tenants_that_always_wait_are_given_the_same_up_to_one_request(backlogs):
    queue = a_queue(1000)
    for tenant, backlog in enumerate(backlogs):
        filled(queue, *[an_entry(str(tenant), cost=cost) for cost in backlog])
    left, given_to, largest = Counter(map(str, range(len(backlogs)))), defaultdict(float), 10
    left.update({str(tenant): len(backlog) - 1 for tenant, backlog in enumerate(backlogs)})
    while min(left.values()) > 0:
        entry = queue.pop(0, 1)
        left[entry.tenant] -= 1
        given_to[entry.tenant] += entry.cost
        shares = [given_to[str(tenant)] for tenant in range(len(backlogs))]
        assert max(shares) - min(shares) <= largest + 1e-9


@given(st.sampled_from([LOW, NORMAL, HIGH]), st.lists(costs, min_size=1, max_size=5), costs)
def test_nobody_starves_however_many_new_tenants_and_urgent_requests_come(
    priority, rivals_costs, cost
):
    """New tenants all the time, each level with the old one; and CRITICAL ones all the time."""
    queue, names = a_queue(10_000, ageing_seconds=5), itertools.count()
    # The one that waits was given a lot before, so that it stands behind the new ones.
    filled(queue, *[an_entry("old", priority, cost=10) for _ in range(3)])
    filled(queue, an_entry("rival", priority))
    queue.pop(0, 1)
    waiting = next(entry for entry in queue if entry.tenant == "old")
    for now in range(2000):
        rival = rivals_costs[now % len(rivals_costs)]
        filled(queue, an_entry(f"new {next(names)}", priority, cost=rival, now=now))
        filled(queue, an_entry(f"new {next(names)}", CRITICAL, cost=cost, now=now))
        queue.pop(now, 1)
        if queue.pop(now, 1) is waiting or waiting not in queue:
            return
    raise AssertionError("2000 seconds without a turn")


@example([("b", NORMAL, 1.0), ("a", NORMAL, 1.0), ("a", NORMAL, 1.0)], "b", NORMAL)
@given(
    st.lists(st.tuples(tenants, st.sampled_from(Priority), costs), max_size=20),
    tenants,
    st.sampled_from(Priority),
)
def test_the_work_before_a_new_entry_is_what_really_comes_before_it(entries, tenant, priority):
    queue = filled(a_queue(), *[an_entry(name, each, cost=cost) for name, each, cost in entries])
    predicted = queue.work_before(priority, tenant)
    late = an_entry(tenant, priority)
    filled(queue, late)
    order = drained(queue)
    before = sum(entry.cost for entry in order[: order.index(late)])
    assert predicted == pytest.approx(before)
