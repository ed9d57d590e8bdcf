"""`modelserver-runtime bench`: what it measures is what happened."""

import io
import json
import threading
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime import __main__ as command_line
from modelserver_runtime.backends.base import TokenOutput, Work
from modelserver_runtime.bench.asking import Answer
from modelserver_runtime.bench.command import _Progress
from modelserver_runtime.bench.report import percentile, summarize, table
from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server


class PacedBackend(CountingBackend):
    """Slow enough for its tokens to be told one after the other."""

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        threading.Event().wait(0.01)
        return super().step(work)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(Settings(served_name="tiny"), fake_model(PacedBackend())) as server:
        yield server


def bench(server: RunningServer, *flags: str) -> int:
    return command_line.run(["bench", "--url", server.url, *flags])


def test_it_asks_as_often_as_it_should_and_counts_the_tokens(server, capsys):
    flags = ("--requests", "6", "--concurrency", "3", "--max-tokens", "10", "--prompt-words", "2")
    assert bench(server, *flags, "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["requests"], found["failed"], found["failures"]) == (6, 0, {})
    assert found["generated_tokens"] == 60
    assert found["generated_tokens_per_second"] == pytest.approx(60 / found["seconds"])
    assert 0 < found["time_to_first_token"]["p50"] <= found["whole_answer"]["p50"]
    assert found["inter_token"]["mean"] > 0


def test_people_get_a_table(server, capsys):
    assert bench(server, "--requests", "2", "--max-tokens", "20") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 requests in ")
    assert [line.split("  ")[0] for line in lines[4:]] == [
        *("time to first token", "between tokens", "whole answer"),
    ]


def test_requests_that_fail_are_counted_by_their_reason_and_end_in_a_code(server, capsys):
    assert bench(server, "--requests", "3", "--max-tokens", "20000") == 1
    out = capsys.readouterr().out
    assert "3 requests in" in out
    assert "3 failed" in out
    assert "failed 3 times: 400: The prompt has" in out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--url", "http://127.0.0.1:1"], "Nobody answers at http://127.0.0.1:1"),
        (["--requests", "0"], "--requests is 0; it must be 1 or more"),
        (["--concurrency", "x"], "invalid int value: 'x'"),
    ],
)
def test_what_cannot_be_measured_is_said(capsys, flags, says):
    assert command_line.run(["bench", *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_failed_request_makes_no_rate_look_good():
    good = Answer(pieces=(0.1, 0.3), seconds=0.4, generated_tokens=2, prompt_tokens=1)
    summary = summarize([good, Answer(failure="503: no")], seconds=2.0)
    assert summary.requests_per_second == 0.5
    assert summary.generated_tokens_per_second == 1.0
    assert summary.inter_token.mean == pytest.approx(200)
    assert summary.time_to_first_token.p99 == pytest.approx(100)


def test_without_one_answer_there_is_nothing_to_spread():
    summary = summarize([Answer(failure="no")], seconds=1.0)
    assert summary.whole_answer is None
    assert list(table(summary))[-1] == "failed 1 times: no"


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([50, 90, 99]))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values, share):
    values.sort()
    found = percentile(values, share)
    assert sum(value <= found for value in values) * 100 >= share * len(values)
    smaller = [value for value in values if value < found]
    assert len(smaller) * 100 < share * len(values)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_to_somebody_who_looks():
    stream = Terminal()
    progress = _Progress(2, stream)
    progress.note(Answer())
    progress.note(Answer(failure="no"))
    assert "\r2 of 2 answered, 1 failed" in stream.getvalue()
    pipe = io.StringIO()
    _Progress(2, pipe).note(Answer())
    assert pipe.getvalue() == ""
