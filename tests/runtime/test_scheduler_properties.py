"""Whatever comes, goes and waits: nobody is lost or starved, and no bound is exceeded."""

import itertools
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec, Work
from modelserver_runtime.engine.request import Priority, Ticket
from modelserver_runtime.engine.scheduler import Schedule, Scheduler, SchedulerLimits
from support.simulated_memory import BLOCK, SimulatedMemory

FAR = 1e9
BLOCKS = 12
MOST_PROMPT, MOST_ANSWER = 30, 8
FEWEST_PROMPT_TOKENS = 64
PER_STEP, PER_TOKEN = 0.01, 0.001

priorities = st.sampled_from(list(Priority))
tenants = st.sampled_from(["", "one", "other"])


class World:
    """Plays the model: counts tokens, gives one to who has got to its end, ends who has enough."""

    def __init__(self, limits: SchedulerLimits, memory: SimulatedMemory | None) -> None:
        self.limits, self.memory = limits, memory
        self.scheduler = Scheduler(limits, memory)
        self.specs: dict[int, SequenceSpec] = {}
        self.computed: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.ended: list[int] = []
        self.now = 0.0

    @property
    def live(self) -> set[int]:
        return self.specs.keys() - set(self.ended)

    def add(
        self, prompt: int, answer: int, priority: Priority, tenant: str, patience: float = FAR
    ) -> int:
        sequence_id = len(self.specs)
        spec = SequenceSpec(
            sequence_id=sequence_id,
            prompt_token_ids=tuple(range(prompt)),
            sampling=SamplingParameters(max_tokens=answer),
        )
        self.specs[sequence_id], self.answered[sequence_id] = spec, 0
        self.computed[sequence_id] = 0
        ticket = Ticket(
            arrived=self.now, deadline=self.now + patience, priority=priority, tenant=tenant
        )
        self.scheduler.add(spec, ticket)
        return sequence_id

    def end(self, sequence_id: int) -> None:
        is_live = sequence_id in self.live
        assert self.scheduler.remove(sequence_id) == is_live
        assert sequence_id not in self.scheduler
        if is_live:
            self.ended.append(sequence_id)

    def step(self) -> Schedule:
        answering = {each for each in self.live if self._left(each) == 1 and self.answered[each]}
        schedule = self.scheduler.schedule(self.now)
        self.ended.extend(schedule.expired)
        self._note_memory(schedule)
        gone = {*schedule.preempted, *schedule.expired}
        self._check_work(schedule.work, answering - gone)
        for item in schedule.work:
            self._compute(item)
        tokens = sum(item.tokens for item in schedule.work)
        self.scheduler.note_time(PER_STEP + PER_TOKEN * tokens)
        return schedule

    def _note_memory(self, schedule: Schedule) -> None:
        if not self.memory:
            assert not schedule.preempted
            return
        if schedule.preempted:
            assert self.scheduler.running, "one always goes on"
        for sequence_id in schedule.preempted:
            self.computed[sequence_id] = 0
        for sequence_id in schedule.admitted:
            self.computed[sequence_id] = self.memory.cached[sequence_id]

    def _check_work(self, work: Sequence[Work], answering: set[int]) -> None:
        parts = {item.sequence_id: item.tokens for item in work}
        assert len(parts) == len(work)
        assert self.scheduler.running <= self.limits.max_running
        assert parts.keys() <= self.live
        assert {each: parts.get(each) for each in answering} == dict.fromkeys(answering, 1)
        most = self.limits.max_batch_tokens
        fewest = min(most, FEWEST_PROMPT_TOKENS)
        assert sum(parts.values()) <= max(most, len(answering) + fewest)
        assert parts or not self.live

    def _left(self, sequence_id: int) -> int:
        length = len(self.specs[sequence_id].prompt_token_ids) + self.answered[sequence_id]
        return length - self.computed[sequence_id]

    def _compute(self, item: Work) -> None:
        sequence_id = item.sequence_id
        assert 0 < item.tokens <= self._left(sequence_id)
        self.computed[sequence_id] += item.tokens
        if self.memory:
            self.memory.cached[sequence_id] = self.computed[sequence_id]
            assert self.computed[sequence_id] <= self.memory.held[sequence_id] * BLOCK
        if self._left(sequence_id):
            return
        self.answered[sequence_id] += 1
        self.scheduler.advance(sequence_id)
        if self.answered[sequence_id] >= self.specs[sequence_id].sampling.max_tokens:
            self.end(sequence_id)

    def run_to_the_end(self) -> None:
        """Each step computes something; what is computed twice is bounded by who gives way."""
        for _ in range(100 * len(self.specs)):
            if not self.live:
                break
            self.step()
        assert not self.live
        assert (self.scheduler.running, self.scheduler.waiting) == (0, 0)
        assert sorted(self.ended) == list(self.specs)
        assert self.memory is None or self.memory.available == self.memory.blocks


limits_of_worlds = st.builds(
    SchedulerLimits,
    max_running=st.integers(1, 6),
    max_batch_tokens=st.integers(1, 100),
    max_cached_tokens=st.sampled_from([None, 50]),
    cuts_prompts=st.booleans(),
    inter_token_seconds=st.sampled_from([None, 0.005, 0.03]),
    ageing_seconds=st.sampled_from([0.5, 5]),
)


class Serving(RuleBasedStateMachine):
    """Requests of all kinds come, are cancelled or late, at any step."""

    @initialize(limits=limits_of_worlds, has_memory=st.booleans())
    def begin(self, limits, has_memory):
        self.world = World(limits, SimulatedMemory(BLOCKS) if has_memory else None)

    @rule(
        prompt=st.integers(1, MOST_PROMPT),
        answer=st.integers(1, MOST_ANSWER),
        priority=priorities,
        tenant=tenants,
        patience=st.sampled_from([0.5, FAR, FAR]),
    )
    def come(self, prompt, answer, priority, tenant, patience):
        self.world.add(prompt, answer, priority, tenant, patience)

    @rule(number=st.integers(0, 40))
    def cancel(self, number):
        self.world.end(number)

    @rule(count=st.integers(1, 8), seconds=st.sampled_from([0.01, 0.2]))
    def steps(self, count, seconds):
        for _ in range(count):
            self.world.step()
            self.world.now += seconds

    @invariant()
    def only_who_runs_has_memory(self):
        world = getattr(self, "world", None)
        if world and world.memory:
            assert world.memory.available >= 0
            assert world.memory.held.keys() <= world.live
            assert len(world.memory.held) == world.scheduler.running

    def teardown(self):
        if hasattr(self, "world"):
            self.world.run_to_the_end()


TestServing = Serving.TestCase
TestServing.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limits=limits_of_worlds,
    has_memory=st.booleans(),
    others=st.lists(
        st.tuples(st.integers(1, MOST_PROMPT), st.integers(1, MOST_ANSWER), priorities, tenants),
        min_size=1,
        max_size=4,
    ),
    live=st.integers(2, 6),
)
def test_nobody_starves_however_many_come_of_whatever_priority(limits, has_memory, others, live):
    """Another comes as soon as one has gone; one of low priority ends within a bounded time.

    After three ageing periods, thirty steps, none that comes is before it; those that are then each
    take all steps for themselves at the worst, some of them twice.
    """
    world = World(limits, SimulatedMemory(BLOCKS) if has_memory else None)
    kinds = itertools.cycle(others)
    for _ in range(live):
        world.add(*next(kinds))
    low = world.add(MOST_PROMPT, MOST_ANSWER, Priority.LOW, "low")
    alone = -(-MOST_PROMPT // min(limits.max_batch_tokens, FEWEST_PROMPT_TOKENS)) + MOST_ANSWER
    for _ in range(40 + 2 * live * alone):
        while len(world.live - {low}) < live:
            world.add(*next(kinds))
        world.step()
        world.now += limits.ageing_seconds / 10
    assert low in world.ended
