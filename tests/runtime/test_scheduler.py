"""The scheduler: who is computed next, who gives way, and what a step may hold."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec
from modelserver_runtime.engine.request import Priority, Ticket
from modelserver_runtime.engine.scheduler import Scheduler, SchedulerLimits
from support.simulated_memory import BLOCK, SimulatedMemory

FAR = 1e9
AGEING = 5


def a_sequence(sequence_id: int, *, prompt: int = 4, answer: int = 8) -> SequenceSpec:
    return SequenceSpec(
        sequence_id=sequence_id,
        prompt_token_ids=tuple(range(prompt)),
        sampling=SamplingParameters(max_tokens=answer),
    )


def a_scheduler(memory: SimulatedMemory | None = None, **limits: Any) -> Scheduler:
    defaults = {"max_running": 4, "max_batch_tokens": 16, "ageing_seconds": AGEING}
    return Scheduler(SchedulerLimits(**{**defaults, **limits}), memory)


def add(scheduler: Scheduler, sequence_id: int, *, prompt: int = 4, **ticket: Any) -> None:
    spec = a_sequence(sequence_id, prompt=prompt, answer=ticket.pop("answer", 8))
    scheduler.add(spec, Ticket(**{"arrived": 0, "deadline": FAR, **ticket}))


def step(
    scheduler: Scheduler, now: float = 0, *, memory: SimulatedMemory | None = None
) -> dict[int, int]:
    """What the step computes; who has got to its end is given a token."""
    work = {item.sequence_id: item.tokens for item in scheduler.schedule(now).work}
    for sequence_id, tokens in work.items():
        sequence = scheduler._running[sequence_id]
        if memory:
            memory.cached[sequence_id] += tokens
        if not sequence.left:
            scheduler.advance(sequence_id)
    return work


def steps(scheduler: Scheduler, count: int) -> list[Mapping[int, int]]:
    return [step(scheduler) for _ in range(count)]


def test_a_prompt_is_computed_first_and_then_one_token_a_step():
    scheduler = a_scheduler()
    add(scheduler, 1, prompt=5)
    assert steps(scheduler, 3) == [{1: 5}, {1: 1}, {1: 1}]


def test_a_long_prompt_takes_several_steps_and_answering_goes_on_beside_it():
    scheduler = a_scheduler(max_batch_tokens=8)
    add(scheduler, 1, prompt=2)
    step(scheduler)
    add(scheduler, 2, prompt=20)
    assert steps(scheduler, 4) == [{1: 1, 2: 8}, {1: 1, 2: 8}, {1: 1, 2: 4}, {1: 1, 2: 1}]


def test_a_prompt_that_may_be_cut_takes_what_is_left_of_the_step():
    scheduler = a_scheduler(max_batch_tokens=80, cuts_prompts=True)
    add(scheduler, 1, prompt=2)
    step(scheduler)
    add(scheduler, 2, prompt=70)
    add(scheduler, 3, prompt=90)
    assert steps(scheduler, 3) == [{1: 1, 2: 70, 3: 9}, {1: 1, 2: 1, 3: 78}, {1: 1, 2: 1, 3: 3}]


def test_a_prompt_advances_even_if_answers_use_the_whole_step():
    scheduler = a_scheduler(max_running=3, max_batch_tokens=2)
    for sequence_id in (1, 2):
        add(scheduler, sequence_id, prompt=1)
    step(scheduler)
    add(scheduler, 3, prompt=2)
    assert step(scheduler) == {1: 1, 2: 1, 3: 2}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(1, 24))
def test_where_roundings_differ_a_prompt_is_cut_at_the_same_places_whatever_runs(prompts, budget):
    scheduler = a_scheduler(max_running=10, max_batch_tokens=budget)
    for sequence_id, prompt in enumerate(prompts):
        add(scheduler, sequence_id, prompt=prompt, answer=1000)
    parts: dict[int, list[int]] = {sequence_id: [] for sequence_id in range(len(prompts))}
    for _ in range(sum(prompts)):
        for sequence_id, tokens in step(scheduler).items():
            parts[sequence_id].append(tokens)
    for sequence_id, prompt in enumerate(prompts):
        whole, rest = divmod(prompt, budget)
        expected = [budget] * whole + [rest] * (rest > 0)
        assert parts[sequence_id][: len(expected)] == expected


def measured(scheduler: Scheduler, *, per_prompt_token: float, per_step: float) -> None:
    """Runs sequence 0 for a while, with steps that take so many seconds."""
    add(scheduler, 0, prompt=100, answer=1000)
    for _ in range(20):
        tokens = sum(step(scheduler).values())
        scheduler.note_time(per_step + (tokens - 1) * per_prompt_token)


def test_beside_answers_a_prompt_is_cut_so_that_they_get_their_next_token_in_time():
    scheduler = a_scheduler(max_batch_tokens=2048, cuts_prompts=True, inter_token_seconds=0.2)
    measured(scheduler, per_step=0.05, per_prompt_token=0.001)
    add(scheduler, 1, prompt=1000)
    assert step(scheduler) == {0: 1, 1: pytest.approx(150, abs=3)}
    scheduler.remove(0)
    assert step(scheduler) == {1: pytest.approx(850, abs=3)}


def test_prompts_are_not_starved_by_answers_that_want_their_next_token_sooner_than_can_be():
    scheduler = a_scheduler(max_batch_tokens=2048, cuts_prompts=True, inter_token_seconds=0.01)
    measured(scheduler, per_step=0.05, per_prompt_token=0.001)
    for sequence_id in (1, 2):
        add(scheduler, sequence_id, prompt=100)
    assert steps(scheduler, 3) == [{0: 1, 1: 64}, {0: 1, 1: 36}, {0: 1, 1: 1, 2: 64}]


def test_without_a_wish_for_the_time_between_tokens_only_the_step_is_bounded():
    scheduler = a_scheduler(max_batch_tokens=2048, cuts_prompts=True)
    measured(scheduler, per_step=0.05, per_prompt_token=0.001)
    add(scheduler, 1, prompt=1000)
    assert step(scheduler) == {0: 1, 1: 1000}


def test_who_came_first_runs_first():
    scheduler = a_scheduler(max_running=2)
    for sequence_id in (5, 3, 9):
        add(scheduler, sequence_id)
    assert scheduler.schedule(0).admitted == (5, 3)
    scheduler.remove(5)
    assert scheduler.schedule(0).admitted == (9,)


def test_the_higher_priority_is_computed_first_until_the_lower_one_has_waited_for_long():
    scheduler = a_scheduler(max_batch_tokens=4, max_running=10, cuts_prompts=True)
    add(scheduler, 1, priority=Priority.LOW)
    add(scheduler, 2, priority=Priority.HIGH)
    add(scheduler, 3, priority=Priority.HIGH, arrived=2 * AGEING)
    assert list(step(scheduler, now=2 * AGEING)) == [2]
    assert list(step(scheduler, now=2 * AGEING)) == [2, 1]
    assert list(step(scheduler, now=2 * AGEING)) == [2, 1, 3]


def test_a_tenant_with_few_prompts_does_not_wait_for_one_with_many():
    scheduler = a_scheduler(max_batch_tokens=8, max_running=10, cuts_prompts=True)
    for sequence_id in range(4):
        add(scheduler, sequence_id, prompt=8, tenant="many")
    add(scheduler, 9, prompt=8, tenant="few")
    assert list(step(scheduler)) == [0]
    assert 9 in step(scheduler)


def test_a_tenant_that_comes_later_has_not_saved_up_turns():
    scheduler = a_scheduler(max_batch_tokens=8, max_running=10, cuts_prompts=True)
    computed: list[int] = []

    def compute(count: int) -> None:
        for _ in range(count):
            computed.extend(step(scheduler))
            scheduler.remove(computed[-1])

    for sequence_id in range(8):
        add(scheduler, sequence_id, prompt=8, tenant="here")
    compute(3)
    for sequence_id in range(10, 14):
        add(scheduler, sequence_id, prompt=8, tenant="new")
    compute(6)
    assert computed == [0, 1, 2, 3, 10, 4, 11, 5, 12]


def test_a_large_sequence_is_not_overtaken_by_small_ones():
    scheduler = a_scheduler(max_cached_tokens=30)
    add(scheduler, 1, prompt=10, answer=10)
    scheduler.schedule(0)
    add(scheduler, 2, prompt=15, answer=10)
    add(scheduler, 3, prompt=1, answer=1)
    assert scheduler.schedule(0).admitted == ()
    scheduler.remove(1)
    assert scheduler.schedule(0).admitted == (2, 3)


def test_a_sequence_larger_than_the_memory_estimate_still_runs_alone():
    scheduler = a_scheduler(max_cached_tokens=10)
    add(scheduler, 1, prompt=50, answer=50)
    assert scheduler.schedule(0).admitted == (1,)


def test_a_sequence_larger_than_all_blocks_is_refused():
    scheduler = a_scheduler(SimulatedMemory(3))
    add(scheduler, 1, prompt=8, answer=4)
    with pytest.raises(ValueError, match=r"may need 4 blocks .* there are 3"):
        add(scheduler, 2, prompt=9, answer=4)
    assert 2 not in scheduler


def test_sequences_are_admitted_for_what_they_need_now_and_not_for_their_longest_answer():
    scheduler = a_scheduler(SimulatedMemory(10), max_running=9)
    for sequence_id in range(9):
        add(scheduler, sequence_id, prompt=BLOCK, answer=6 * BLOCK)
    assert len(scheduler.schedule(0).admitted) > 10 * BLOCK // (7 * BLOCK)


def crowded(**tickets: Any) -> tuple[Scheduler, SimulatedMemory]:
    """Three that answer, of a block each, and no block that is free."""
    memory = SimulatedMemory(5)
    scheduler = a_scheduler(memory, max_batch_tokens=64, cuts_prompts=True)
    for sequence_id in (1, 2, 3):
        own = tickets.get(f"of_{sequence_id}", {})
        add(scheduler, sequence_id, prompt=2, answer=3 * BLOCK, **own)
    assert step(scheduler, memory=memory) == {1: 2, 2: 2, 3: 2}
    memory.blocks = 3
    return scheduler, memory


@pytest.mark.parametrize(
    ("tickets", "victims"),
    [
        ({}, [3, 2]),
        ({"of_2": {"priority": Priority.LOW}}, [2, 3]),
        ({"of_3": {"arrived": -AGEING}}, [2, 1]),
        ({"of_1": {"tenant": "a"}, "of_2": {"tenant": "a"}, "of_3": {"tenant": "b"}}, [2, 3]),
    ],
    ids=["admitted last", "lowest priority", "an old one is spared", "of who has most"],
)
def test_who_gives_way_when_blocks_run_short(tickets, victims):
    scheduler, memory = crowded(**tickets)
    preempted = []
    for _ in range(2 * BLOCK):
        schedule = scheduler.schedule(0)
        preempted += schedule.preempted
        for item in schedule.work:
            memory.cached[item.sequence_id] += item.tokens
            if not scheduler._running[item.sequence_id].left:
                scheduler.advance(item.sequence_id)
    assert preempted == victims
    assert scheduler.running == 1


def test_who_gave_way_is_computed_again_with_what_it_had_answered():
    scheduler, memory = crowded(of_2={"priority": Priority.LOW})
    while 2 in scheduler._running:
        step(scheduler, memory=memory)
    scheduler.remove(1)
    scheduler.remove(3)
    answered = BLOCK + 1 - 2
    assert step(scheduler, memory=memory)[2] == 2 + answered
    assert step(scheduler, memory=memory) == {2: 1}


def test_who_is_alone_does_not_give_way():
    memory = SimulatedMemory(3)
    scheduler = a_scheduler(memory)
    add(scheduler, 1, prompt=2 * BLOCK, answer=BLOCK)
    add(scheduler, 2, prompt=2 * BLOCK, answer=BLOCK)
    for _ in range(BLOCK):
        assert list(step(scheduler, memory=memory)) == [1]


def test_an_urgent_one_takes_the_blocks_of_lower_levels_but_not_of_its_own():
    scheduler, _ = crowded(of_1={"priority": Priority.LOW})
    add(scheduler, 4, prompt=2)
    assert scheduler.schedule(0).preempted == ()
    add(scheduler, 5, prompt=2, priority=Priority.HIGH)
    schedule = scheduler.schedule(0)
    assert schedule.preempted == (1, 3)
    assert 5 in schedule.admitted


def test_nobody_gives_way_for_an_urgent_one_that_would_not_fit_all_the_same():
    scheduler, memory = crowded(of_1={"priority": Priority.LOW})
    memory.blocks = 4
    add(scheduler, 4, prompt=4 * BLOCK, answer=0)
    assert scheduler.schedule(0).preempted == ()


def test_late_sequences_are_given_up_waiting_or_running():
    scheduler = a_scheduler(max_running=1)
    add(scheduler, 1, deadline=10)
    add(scheduler, 2, deadline=20)
    scheduler.schedule(0)
    assert scheduler.schedule(10).expired == (1,)
    assert scheduler.schedule(20).expired == (2,)
    assert not scheduler.has_work


def test_blocks_of_late_sequences_are_used_in_the_same_step():
    scheduler = a_scheduler(SimulatedMemory(4))
    add(scheduler, 1, prompt=3 * BLOCK, answer=1, deadline=10)
    scheduler.schedule(0)
    add(scheduler, 2, prompt=3 * BLOCK, answer=1)
    assert scheduler.schedule(9).admitted == ()
    assert scheduler.schedule(10).admitted == (2,)


def test_a_removed_sequence_gives_its_memory_back():
    scheduler = a_scheduler(max_cached_tokens=12)
    for sequence_id in range(1, 50):
        add(scheduler, sequence_id)
        assert scheduler.schedule(0).admitted == (sequence_id,)
        assert scheduler.remove(sequence_id)
        assert not scheduler.remove(sequence_id)


def test_the_same_id_twice_is_an_error():
    scheduler = a_scheduler()
    add(scheduler, 1)
    with pytest.raises(ValueError, match="already scheduled"):
        add(scheduler, 1)
