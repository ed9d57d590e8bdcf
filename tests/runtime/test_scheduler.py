"""The scheduler: fair, bounded, and it never loses or duplicates a sequence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits

FAR = 1e9


def a_sequence(sequence_id: int, *, prompt: int = 4, answer: int = 8) -> SequenceSpec:
    return SequenceSpec(
        sequence_id=sequence_id,
        prompt_token_ids=tuple(range(prompt)),
        sampling=SamplingParameters(max_tokens=answer),
    )


def a_scheduler(**limits: int) -> Scheduler:
    return Scheduler(SchedulerLimits(**{"max_running": 4, "max_batch_tokens": 16, **limits}))


def work_of(scheduler: Scheduler, now: float = 0) -> dict[int, int]:
    return {item.sequence_id: item.tokens for item in scheduler.schedule(now).work}


def test_a_prompt_is_computed_first_and_then_one_token_a_step():
    scheduler = a_scheduler()
    scheduler.add(a_sequence(1, prompt=5), deadline=FAR)
    assert [work_of(scheduler) for _ in range(3)] == [{1: 5}, {1: 1}, {1: 1}]


def test_a_long_prompt_takes_several_steps_and_decoding_goes_on_beside_it():
    scheduler = a_scheduler(max_batch_tokens=8)
    scheduler.add(a_sequence(1, prompt=2), deadline=FAR)
    work_of(scheduler)
    scheduler.add(a_sequence(2, prompt=20), deadline=FAR)
    assert [work_of(scheduler) for _ in range(4)] == [
        {1: 1, 2: 8},
        {1: 1, 2: 8},
        {1: 1, 2: 4},
        {1: 1, 2: 1},
    ]


def test_a_prompt_advances_even_if_decoding_uses_the_whole_budget():
    scheduler = a_scheduler(max_running=3, max_batch_tokens=2)
    for sequence_id in (1, 2):
        scheduler.add(a_sequence(sequence_id, prompt=1), deadline=FAR)
    work_of(scheduler)
    scheduler.add(a_sequence(3, prompt=2), deadline=FAR)
    assert work_of(scheduler) == {1: 1, 2: 1, 3: 2}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 24))
def test_a_prompt_is_cut_at_the_same_places_whatever_runs_beside_it(prompts, budget):
    scheduler = a_scheduler(max_running=10, max_batch_tokens=budget)
    for sequence_id, prompt in enumerate(prompts):
        scheduler.add(a_sequence(sequence_id, prompt=prompt, answer=1000), deadline=FAR)
    parts: dict[int, list[int]] = {sequence_id: [] for sequence_id in range(len(prompts))}
    for _ in range(sum(prompts)):
        for sequence_id, tokens in work_of(scheduler).items():
            parts[sequence_id].append(tokens)
    for sequence_id, prompt in enumerate(prompts):
        whole, rest = divmod(prompt, budget)
        expected = [budget] * whole + [rest] * (rest > 0)
        assert parts[sequence_id][: len(expected)] == expected


def test_who_came_first_runs_first():
    scheduler = a_scheduler(max_running=2)
    for sequence_id in (5, 3, 9):
        scheduler.add(a_sequence(sequence_id), deadline=FAR)
    assert scheduler.schedule(0).admitted == (5, 3)
    scheduler.remove(5)
    assert scheduler.schedule(0).admitted == (9,)


def test_a_large_sequence_is_not_overtaken_by_small_ones():
    scheduler = a_scheduler(max_cached_tokens=30)
    scheduler.add(a_sequence(1, prompt=10, answer=10), deadline=FAR)
    scheduler.schedule(0)
    scheduler.add(a_sequence(2, prompt=15, answer=10), deadline=FAR)
    scheduler.add(a_sequence(3, prompt=1, answer=1), deadline=FAR)
    assert scheduler.schedule(0).admitted == ()
    scheduler.remove(1)
    assert scheduler.schedule(0).admitted == (2, 3)


def test_a_sequence_larger_than_the_memory_estimate_still_runs_alone():
    scheduler = a_scheduler(max_cached_tokens=10)
    scheduler.add(a_sequence(1, prompt=50, answer=50), deadline=FAR)
    assert scheduler.schedule(0).admitted == (1,)


def test_late_sequences_are_given_up_waiting_or_running():
    scheduler = a_scheduler(max_running=1)
    scheduler.add(a_sequence(1), deadline=10)
    scheduler.add(a_sequence(2), deadline=20)
    scheduler.schedule(0)
    assert scheduler.schedule(10).expired == (1,)
    assert scheduler.schedule(20).expired == (2,)
    assert not scheduler.has_work


def test_a_removed_sequence_gives_its_memory_back():
    scheduler = a_scheduler(max_cached_tokens=12)
    for sequence_id in range(1, 50):
        scheduler.add(a_sequence(sequence_id), deadline=FAR)
        assert scheduler.schedule(0).admitted == (sequence_id,)
        assert scheduler.remove(sequence_id)
        assert not scheduler.remove(sequence_id)


def test_the_same_id_twice_is_an_error():
    scheduler = a_scheduler()
    scheduler.add(a_sequence(1), deadline=FAR)
    with pytest.raises(ValueError, match="already scheduled"):
        scheduler.add(a_sequence(1), deadline=FAR)


events = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40), st.integers(1, 12)),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("step"), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(events=events, max_running=st.integers(1, 5), budget=st.integers(1, 24))
def test_no_sequence_is_lost_duplicated_or_computed_wrongly(events, max_running, budget):
    """Every sequence ends exactly once, after exactly its prompt and its answer."""
    world = _World(max_running, budget)
    for kind, first, second in events:
        match kind:
            case "add":
                world.add(prompt=first, answer=second)
            case "cancel":
                world.cancel(first)
            case _:
                world.step()
    world.run_to_the_end()
    assert world.ended == sorted(world.added)
    assert world.scheduler.running == world.scheduler.waiting == 0


class _World:
    """Plays the backend: counts tokens, finishes sequences whose answer is complete."""

    def __init__(self, max_running: int, budget: int) -> None:
        self.scheduler = a_scheduler(max_running=max_running, max_batch_tokens=budget)
        self.max_running, self.budget = max_running, budget
        self.added: dict[int, SequenceSpec] = {}
        self.computed: dict[int, int] = {}
        self.finished: list[int] = []
        self.cancelled: list[int] = []

    @property
    def ended(self) -> list[int]:
        return sorted(self.finished + self.cancelled)

    def add(self, *, prompt: int, answer: int) -> None:
        sequence = a_sequence(len(self.added) + 1, prompt=prompt, answer=answer)
        self.added[sequence.sequence_id] = sequence
        self.computed[sequence.sequence_id] = 0
        self.scheduler.add(sequence, deadline=FAR)

    def cancel(self, sequence_id: int) -> None:
        is_live = sequence_id in self.added and sequence_id not in self.ended
        assert self.scheduler.remove(sequence_id) == is_live
        if is_live:
            self.cancelled.append(sequence_id)

    def step(self) -> None:
        work = self.scheduler.schedule(0).work
        assert len({item.sequence_id for item in work}) == len(work)
        assert self.scheduler.running <= self.max_running
        decoding = [item for item in work if self._is_decoding(item.sequence_id)]
        prompts = sum(item.tokens for item in work) - len(decoding)
        assert prompts <= self.budget
        assert all(item.tokens == 1 for item in decoding)
        for item in work:
            self._compute(item.sequence_id, item.tokens)

    def _is_decoding(self, sequence_id: int) -> bool:
        return self.computed[sequence_id] >= len(self.added[sequence_id].prompt_token_ids)

    def _compute(self, sequence_id: int, tokens: int) -> None:
        self.computed[sequence_id] += tokens
        sequence = self.added[sequence_id]
        prompt = len(sequence.prompt_token_ids)
        # The last token of the prompt gives the first token of the answer.
        generated = self.computed[sequence_id] - prompt + 1
        if generated >= sequence.sampling.max_tokens:
            assert generated == sequence.sampling.max_tokens
            assert self.scheduler.remove(sequence_id)
            self.finished.append(sequence_id)

    def run_to_the_end(self) -> None:
        steps = sum(
            len(sequence.prompt_token_ids) + sequence.sampling.max_tokens
            for sequence in self.added.values()
        )
        for _ in range(steps):
            self.step()
