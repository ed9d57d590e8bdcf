"""`modelserver-runtime preflight`: what it says of a server is what the server answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelserver_runtime import __main__ as command_line
from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """To every question it answers with the letters of the alphabet."""
    with running_server(Settings(served_name="tiny"), fake_model(CountingBackend())) as server:
        yield server


def asked(name: str, question: str = "hi", letters: int = 3, **expect: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    request = {"messages": messages, "max_tokens": letters, "model": "tiny"}
    return {"name": name, "request": request, "expect": expect}


@pytest.fixture
def preflight(server, tmp_path, monkeypatch):
    """Runs the command; gives its exit code and what it left for the operator."""
    last_words = tmp_path / "termination-log"
    monkeypatch.setenv("MODELSERVER_TERMINATION_LOG", str(last_words))

    def run(*cases: dict[str, Any], flags: tuple[str, ...] = (), url: str = server.url):
        file = tmp_path / "cases.jsonl"
        file.write_text("\n".join(map(json.dumps, cases)))
        code = command_line.run(["preflight", "--url", url, "--cases", str(file), *flags])
        return code, json.loads(last_words.read_text())

    return run


def test_a_server_that_answers_as_expected_passes(preflight, capsys):
    code, message = preflight(
        asked("exact", exact="abc"),
        asked("several things", contains="b", regex="^a.c$", status=200, maxMilliseconds=60_000),
    )
    assert code == 0
    assert message == {
        "passed": 2,
        "failed": 0,
        "total": 2,
        "minPassPercent": 100,
        "failures": [],
    }
    said = capsys.readouterr()
    assert said.out == "2 of 2 cases passed, enough: 100 % must\n"
    assert [line.split(" (")[0] for line in said.err.splitlines()] == [
        "1/2 exact: passed",
        "2/2 several things: passed",
    ]


def test_a_wrong_answer_fails_with_what_was_expected_and_what_came(preflight, capsys):
    code, message = preflight(asked("right", exact="abc"), asked("wrong", exact="xyz"))
    assert code == 1
    sentence = "expected the text 'xyz', got 'abc'"
    assert message["failures"] == [{"name": "wrong", "message": sentence}]
    assert (message["passed"], message["failed"]) == (1, 1)
    assert capsys.readouterr().out.splitlines() == [
        "1 of 2 cases passed, not enough: 100 % must",
        f"failed: wrong: {sentence}",
    ]


@pytest.mark.parametrize(("percent", "code"), [("50", 0), ("51", 1)])
def test_as_many_must_pass_as_is_asked_for(preflight, percent, code):
    found, _ = preflight(
        asked("right", exact="abc"),
        asked("wrong", exact="xyz"),
        flags=("--min-pass-percent", percent),
    )
    assert found == code


def test_a_status_may_be_what_is_expected(preflight):
    too_long = asked("too long", letters=20_000, status=400)
    _, message = preflight(too_long, {**too_long, "name": "not 400", "expect": {}})
    assert message["passed"] == 1
    assert message["failures"][0]["message"].startswith("expected status 200, got 400: The prompt")


def test_json_shows_every_case(preflight, capsys):
    preflight(asked("right", exact="abc"), asked("wrong", exact="xyz"), flags=("--output", "json"))
    found = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["passed"]) for one in found["cases"]] == [
        ("right", True),
        ("wrong", False),
    ]


def test_a_server_that_answers_too_late_fails_every_case_that_is_left(tmp_path, monkeypatch):
    backend = CountingBackend()
    with running_server(Settings(served_name="tiny"), fake_model(backend)) as slow:
        backend.may_step.clear()
        code, message = _run_once(slow.url, tmp_path, monkeypatch)
        backend.may_step.set()
    assert code == 1
    first, second = message["failures"]
    assert "when the time was over" in first["message"]
    assert second["message"] == "it was not asked: the time for all was over"


def _run_once(url: str, tmp_path: Path, monkeypatch) -> tuple[int, dict[str, Any]]:
    last_words = tmp_path / "termination-log"
    monkeypatch.setenv("MODELSERVER_TERMINATION_LOG", str(last_words))
    file = tmp_path / "cases.jsonl"
    file.write_text(f"{json.dumps(asked('one'))}\n{json.dumps(asked('two'))}")
    flags = ["--url", url, "--cases", str(file), "--timeout", "0.5"]
    return command_line.run(["preflight", *flags]), json.loads(last_words.read_text())


def test_where_nobody_answers_there_is_no_result_but_a_reason(preflight):
    code, message = preflight(asked("one"), url="http://127.0.0.1:1", flags=("--timeout", "0.2"))
    assert code == 2
    assert message["code"] == "InvalidConfiguration"
    assert message["message"].startswith("Nobody answers at http://127.0.0.1:1")


def test_a_key_is_sent_and_not_shown(tmp_path, preflight, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-may-see")
    code, _ = preflight(asked("one", exact="abc"))
    said = capsys.readouterr()
    assert code == 0
    assert "sk-nobody" not in said.out + said.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--min-pass-percent", "0"), "--min-pass-percent is 0; it must be from 1 to 100"),
        (("--min-pass-percent", "101"), "--min-pass-percent is 101; it must be from 1 to 100"),
        (("--timeout", "0"), "--timeout is 0; it must be more than 0 seconds"),
        (("--url", "chat:80"), "--url is 'chat:80'; it must begin with http:// or https://"),
        (("--cases", "/nowhere/cases"), "/nowhere/cases cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked_is_said(preflight, flags, says):
    code, message = preflight(asked("one"), flags=flags)
    assert code == 2
    assert says in message["message"]
