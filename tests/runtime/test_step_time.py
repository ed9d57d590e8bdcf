"""What is thought of the time of steps, from what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.engine.step_time import StepShape, StepTimeModel

coefficients = st.tuples(
    st.floats(0.001, 0.1), st.floats(1e-4, 1e-2), st.floats(1e-4, 1e-2), st.floats(1e-8, 1e-6)
)
SHAPES = [
    StepShape(
        prompt_tokens=64 * (index % 5),
        answer_tokens=index % 7,
        attended=1000 * (index % 11) * (index % 7) + 32 * 64 * (index % 5),
    )
    for index in range(200)
]


def seconds_of(truth: tuple[float, ...], shape: StepShape) -> float:
    step, prompt, answer, attended = truth
    return (
        step
        + prompt * shape.prompt_tokens
        + answer * shape.answer_tokens
        + attended * shape.attended
    )


def trained(truth: tuple[float, ...]) -> StepTimeModel:
    model = StepTimeModel()
    for shape in SHAPES:
        model.observe(shape, seconds_of(truth, shape))
    return model


@given(coefficients)
def test_what_follows_the_rule_is_predicted(truth):
    model = trained(truth)
    for shape in SHAPES[:30]:
        assert model.predict(shape) == pytest.approx(seconds_of(truth, shape), rel=0.05, abs=0.001)


@given(coefficients, st.floats(0.01, 1), st.integers(0, 4000))
def test_a_part_of_a_prompt_takes_the_time_that_it_was_given(truth, seconds, context):
    model = trained(truth)
    tokens = model.prompt_tokens_within(seconds, context=context)
    attended = tokens * context + tokens * tokens // 2
    part = StepShape(prompt_tokens=tokens, attended=attended)
    needed = model.predict(part) - model.predict(StepShape())
    one_more = model.predict(StepShape(prompt_tokens=2, attended=2 * (context + tokens)))
    assert needed <= seconds * 1.001
    assert needed >= seconds * 0.999 - (one_more - model.predict(StepShape()))


def test_nothing_is_known_before_prompts_and_answers_were_measured():
    model = StepTimeModel()
    for _ in range(20):
        model.observe(StepShape(answer_tokens=2, attended=100), 0.01)
    assert not model.is_trained
    model.observe(StepShape(prompt_tokens=100, answer_tokens=2, attended=5000), 0.1)
    assert model.is_trained


def test_there_is_no_part_for_time_that_is_over():
    assert trained((0.01, 0.001, 0.001, 0)).prompt_tokens_within(-0.1, context=0) == 0


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 40), st.floats(0, 10)), max_size=40))
def test_more_work_is_never_thought_to_take_less_time(measured):
    model = StepTimeModel()
    for prompt, answers, seconds in measured:
        shape = StepShape(
            prompt_tokens=prompt, answer_tokens=answers, attended=prompt * prompt // 2
        )
        model.observe(shape, seconds)
    few = StepShape(prompt_tokens=10, answer_tokens=1, attended=100)
    many = StepShape(prompt_tokens=20, answer_tokens=2, attended=300)
    assert 0 <= model.predict(few) <= model.predict(many)


def test_a_machine_that_becomes_slower_is_noticed():
    model = trained((0.01, 0.001, 0.001, 0))
    for shape in SHAPES * 3:
        model.observe(shape, 2 * seconds_of((0.01, 0.001, 0.001, 0), shape))
    assert model.prompt_tokens_within(0.2, context=0) == pytest.approx(100, rel=0.05)
