"""What is guessed of an answer, how far it is believed, and how much of it is computed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_runtime.backends.native.guessing import (
    Guess,
    Guesser,
    Prediction,
    Record,
    Repetition,
    guesser_of,
)
from modelserver_runtime.backends.native.speculation import (
    MOST_ROWS,
    RowCost,
    Speculator,
    depths,
)

few = st.lists(st.integers(0, 3), max_size=60)


def by_looking_everywhere(text: list[int], most: int) -> list[int]:
    for length in (4, 3, 2):
        end = len(text)
        for at in range(end - 1, length - 1, -1):
            if text[at - length : at] == text[end - length : end]:
                following = text[at:]
                return [following[index % len(following)] for index in range(most)]
    return []


@settings(max_examples=40, deadline=None)
@given(few, few, st.integers(1, 9))
def test_a_repetition_is_the_last_place_of_the_longest_match(prompt, answer, most):
    text = list(prompt)
    repetition = Repetition(text)
    for token_id in answer:
        assert repetition.guess(most) == by_looking_everywhere(text, most)
        text.append(token_id)
    assert repetition.guess(most) == by_looking_everywhere(text, most)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 9))
def test_a_prediction_that_comes_true_is_guessed_to_its_end(expected, most):
    prediction = Prediction(tuple(expected))
    for at, token_id in enumerate(expected):
        assert prediction.guess(most) == expected[at : at + most]
        prediction.note(token_id)
    assert prediction.guess(most) == []


@pytest.mark.parametrize(
    ("answer", "guess"),
    [
        ([], [1, 2, 3]),
        ([1, 2], [3, 4, 5]),
        ([1, 2, 9], []),  # another word: it is lost
        ([1, 2, 9, 4], []),
        ([1, 2, 9, 4, 5], [6, 7, 8]),  # two known words lead back
        ([1, 2, 5, 6], [7, 8]),  # something left out
        ([5, 6, 7, 1, 2], [3, 4, 5]),  # another order
        ([1, 2, 3, 4, 5, 6, 7, 8], []),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], []),
    ],
)
def test_a_prediction_is_followed_through_changes(answer, guess):
    prediction = Prediction((1, 2, 3, 4, 5, 6, 7, 8))
    for token_id in answer:
        prediction.note(token_id)
    assert prediction.guess(3) == guess


def test_of_places_that_look_alike_the_next_one_is_meant():
    prediction = Prediction((1, 2, 3, 1, 2, 4, 1, 2, 5))
    for token_id in (1, 2, 3, 1, 7, 1, 2):
        prediction.note(token_id)
    # From the second place on, where it was lost; the first has been said.
    assert prediction.guess(1) == [4]


def test_a_word_that_differs_among_equal_ones_is_left_behind():
    prediction = Prediction((1, 1, 1, 2, 1, 1, 1, 1, 1, 1))
    for _ in range(5):
        prediction.note(1)
    assert prediction.guess(2) == [1, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=60))
def test_a_chance_is_one(outcomes):
    record = Record(0.6)
    for is_right in outcomes:
        record.note([1], [1 if is_right else 2])
        assert 0 < record.chance < 1


def test_a_chance_follows_what_happens_and_forgets():
    record = Record(0.6)
    for _ in range(60):
        record.note([1, 1], [1, 1])
    assert record.chance > 0.9
    for _ in range(60):
        record.note([1, 1], [2])
    assert record.chance < 0.1


def test_what_comes_after_a_wrong_guess_says_nothing():
    one, other = Record(0.6), Record(0.6)
    one.note([1, 2, 3], [1, 9, 3])
    other.note([1, 2], [1, 9])
    assert one == other


def test_guesses_that_are_not_computed_count_too():
    guesser = guesser_of([1, 2, 3, 4] * 3, ())
    first = guesser.guess(3)
    assert first.token_ids == [1, 2, 3]
    guesser.note([1])
    assert guesser.guess(3).chance > first.chance


def test_a_client_is_believed_first():
    text = [1, 2, 3, 1, 2]
    guesser = guesser_of(text, (1, 2, 8))
    assert isinstance(guesser, Guesser)
    assert guesser.guess(2).is_prediction
    text.append(3)
    guesser.note([3])
    guess = guesser.guess(2)
    assert (guess.token_ids, guess.is_prediction) == ([1, 2], False)


@pytest.mark.parametrize("most", [0, -1])
def test_where_there_is_no_room_nothing_is_guessed(most):
    assert guesser_of([1, 2, 1, 2], (1, 2)).guess(most).token_ids == []


def made(chance: float, tokens: int) -> Guess:
    return Guess(token_ids=[1] * tokens, chance=chance, is_prediction=False)


@pytest.mark.parametrize(
    ("chances", "rows", "share", "expected"),
    [
        ([0.99], 1, 0.05, [8]),
        ([0.5], 1, 0.05, [3]),  # 1/2, 1/4, 1/8; a sixteenth of a token is less than a row brings
        ([0.02], 1, 0.05, [0]),
        ([0.99], 1, 1.0, [0]),  # where a row costs a step, nothing is won
        ([0.9, 0.1], 2, 0.1, [8, 0]),
        ([0.9, 0.1], 2, 0.5, [2, 0]),
        ([], 1, 0.1, []),
    ],
)
def test_as_much_is_computed_as_brings_more_a_second(chances, rows, share, expected):
    assert depths([made(each, 8) for each in chances], rows, share) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12)), max_size=8),
    st.integers(1, 8),
    st.floats(0.03, 1),
)
def test_what_is_computed_never_costs_tokens(entries, rows, share):
    rows = max(rows, len(entries))
    guesses = [made(*each) for each in entries]
    taken = depths(guesses, rows, share)
    assert all(
        0 <= count <= len(each.token_ids) for count, each in zip(taken, guesses, strict=True)
    )
    assert rows + sum(taken) <= max(rows, MOST_ROWS)
    brought = sum(
        each.chance**depth
        for count, each in zip(taken, guesses, strict=True)
        for depth in range(1, count + 1)
    )
    time = 1 + share * (rows - 1)
    assert (rows + brought) / (time + share * sum(taken)) >= rows / time - 1e-9


@pytest.mark.parametrize("share", [0.05, 0.2, 0.8])
def test_what_a_row_costs_is_measured(share):
    cost = RowCost()
    for step in range(300):
        rows = 1 + step % 7
        cost.observe(rows, 0.01 * (1 + share * (rows - 1)))
    assert cost.share == pytest.approx(share, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 16), st.floats(0, 10)), max_size=50))
def test_no_measurement_makes_a_row_free_or_dearer_than_a_step(measured):
    cost = RowCost()
    for rows, seconds in measured:
        cost.observe(rows, seconds)
        assert 0 < cost.share <= 1


@pytest.mark.parametrize(
    ("most", "rows", "may"), [(8, 1, True), (8, 8, True), (8, 9, False), (0, 1, False)]
)
def test_nothing_is_guessed_while_much_is_computed_or_where_it_is_turned_off(most, rows, may):
    assert Speculator(most).may_guess(rows) is may
