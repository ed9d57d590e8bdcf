"""The parts of a cold start are what followed each other, and nothing is counted twice."""

import pytest

from bench import coldstart


def asked():
    return coldstart.Asked(began=100.0, first_news=102.0, first_token=110.0, state="cold")


MOMENTS = {
    "wake_up": 100.5,
    "schedule": 100.6,
    "pod_start": 103.0,
    "load": 108.0,
    "warm_up": 109.5,
    "first_token": 110.0,
}


def test_each_part_lasts_from_the_one_before():
    found = coldstart.seconds_of(asked(), MOMENTS)
    parts = [found[f"{part}_seconds"] for part in coldstart.PARTS]
    assert parts == [0.5, 0.1, 2.4, 5.0, 1.5, 0.5]
    assert found["cold_start_seconds"] == 10.0
    assert found["first_news_seconds"] == 2.0


@pytest.mark.parametrize("late", [{"warm_up": 111.0}, {"schedule": 104.0}, {"pod_start": 200.0}])
def test_a_look_that_came_late_makes_no_time(late):
    found = coldstart.seconds_of(asked(), MOMENTS | late)
    parts = [found[f"{part}_seconds"] for part in coldstart.PARTS]
    assert sum(parts) == pytest.approx(found["cold_start_seconds"])
    assert min(parts) >= 0


def test_the_first_token_is_told_from_progress_and_from_empty_events():
    seen = coldstart.Asked()
    coldstart._note(": loading", seen)
    assert seen.first_news
    coldstart._note('data: {"choices": [{"delta": {"role": "assistant"}}]}', seen)
    assert not seen.first_token
    coldstart._note('data: {"choices": [{"delta": {"content": "Model"}}]}', seen)
    assert seen.first_token
    coldstart._note('data: {"error": {"message": "no"}}', coldstart.Asked())
    coldstart._note("data: [DONE]", seen)
    assert not seen.problem


def test_an_error_in_the_stream_is_a_problem():
    seen = coldstart.Asked()
    coldstart._note('data: {"error": {"message": "It failed"}}', seen)
    assert seen.problem == "It failed"
