"""What is lost at zero is told from what was answered, refused with a time, and mistaken."""

from types import SimpleNamespace

import pytest

from bench import zero
from support.marked_traffic import Answer, MarkedTraffic


def answer(number, status=200, **more):
    mark = f"burst-{number}"
    given = {"marked": mark, "times_seen": "1", **more}
    return Answer(mark=mark, began=1.0, seconds=number / 2, status=status, **given)


def part(*answers, sent=0):
    traffic = MarkedTraffic(url="", model="chat", word="burst", answers=list(answers))
    traffic.sent = sent or len(answers)
    return zero.part_of("service", "burst", traffic)


def test_who_was_answered_or_told_when_to_try_again_is_not_lost():
    found = part(answer(0), answer(1, 429, retry_after="3"), answer(2, 503, retry_after="1"))
    assert (found["requests"], found["answered"], found["refused"]) == (3, 1, 2)
    assert (found["lost"], found["mistaken"]) == (0, 0)
    assert found["longest_wait_seconds"] == 1.0


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 504])
def test_whoever_was_told_nothing_is_lost(status):
    found = part(answer(0), answer(1, status, text="why"))
    assert (found["answered"], found["refused"], found["lost"]) == (1, 0, 1)
    assert found["told"] == [f"{status} why"]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_an_error_is_no_answer_though_it_says_when_to_try_again(status):
    assert part(answer(0, status, retry_after="1"))["lost"] == 1


def test_a_request_without_any_outcome_is_lost():
    assert part(answer(0), sent=2)["lost"] == 1


def test_the_target_holds_only_if_nothing_is_lost_on_either_way():
    parts = [part(answer(0)), part(answer(0)) | {"way": "gateway"}]
    arguments = SimpleNamespace(rounds=1, note="")
    result = zero.result_of(parts, arguments)
    assert result.targets["requests_lost_at_zero"].holds
    parts[1]["lost"] = 1
    result = zero.result_of(parts, arguments)
    assert not result.targets["requests_lost_at_zero"].holds
    assert result.figures["requests_lost_at_zero_through_gateway"] == 1
    assert result.figures["requests_lost_at_zero_through_service"] == 0
