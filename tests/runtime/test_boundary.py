"""What surrounds every answer: ids, headers for browsers, times, and one line of the log."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest

from modelserver_runtime.logs import JsonLines, TextLines, install_logging, without_secrets
from modelserver_runtime.settings import Settings
from support.fake_model import CountingBackend, fake_model
from support.runtime_server import RunningServer, running_server

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
PAGE = "https://chat.example"


def serve_fake(**settings: object) -> Iterator[RunningServer]:
    values = {"served_name": "tiny", "revision": "5d9f7c1a", "max_body_bytes": 5000, **settings}
    with running_server(Settings(**values), fake_model(CountingBackend())) as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    yield from serve_fake()


@pytest.fixture(scope="module")
def open_server() -> Iterator[RunningServer]:
    yield from serve_fake(cors_origins=[PAGE], hsts_seconds=60)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", CHAT, 200),
        ("/v1/chat/completions", {}, 400),
        ("/no/such/route", {}, 404),
        ("/generate", {"inputs": "a" * 6000}, 413),
        ("/generate", {"inputs": "m"}, 500),  # token 13, which the fake model cannot compute
    ],
)
def test_every_answer_has_an_id_and_tells_browsers_to_be_careful(server, path, body, status):
    headers = server.post(path, **body)
    assert headers.status_code == status
    assert re.fullmatch(r"req-[0-9a-f]{24}", headers.headers["x-request-id"])
    found = {name: headers.headers.get(name) for name in EXPECTED}
    assert found == EXPECTED


EXPECTED = {
    "x-model-revision": "5d9f7c1a",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "strict-transport-security": None,
    "access-control-allow-origin": None,
}


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [("trace-1.2:3_4", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)],
)
def test_a_plain_id_of_the_client_is_kept_and_any_other_replaced(server, sent, is_kept):
    headers = server.client.get("/livez", headers={"x-request-id": sent}).headers
    assert (headers["x-request-id"] == sent) is is_kept


def test_https_is_insisted_on_by_setting(open_server):
    header = open_server.client.get("/livez").headers["strict-transport-security"]
    assert header == "max-age=60; includeSubDomains"


def test_pages_of_a_named_origin_may_call_and_read_the_headers(open_server):
    asked = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = open_server.client.options("/v1/chat/completions", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = open_server.client.post("/v1/chat/completions", json=CHAT, headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_errors_of_the_boundary_itself_can_be_read_by_pages(open_server):
    large = {"inputs": "a" * 6000}
    answer = open_server.client.post("/generate", json=large, headers={"origin": PAGE})
    assert answer.status_code == 413
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_pages_of_other_origins_get_no_leave(open_server):
    answer = open_server.client.get("/livez", headers={"origin": "https://other.example"})
    assert "access-control-allow-origin" not in answer.headers


def timings(header: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+);dur=([0-9.]+)", header)}


def asking(text: str, **more: object) -> dict[str, object]:
    """Nobody has asked this before: the prompt of a repeated question is remembered."""
    return {**CHAT, "messages": [{"role": "user", "content": text}], **more}


def test_the_times_of_an_answer_are_told_and_fit_into_the_whole(server):
    answer = server.post("/v1/chat/completions", **asking("whole"))
    found = timings(answer.headers["server-timing"])
    assert {"tokenize", "prefill", "decode", "total"} <= set(found)
    # Each is rounded to a tenth of a millisecond.
    assert sum(value for name, value in found.items() if name != "total") <= found["total"] + 0.3


def test_a_stream_tells_the_times_until_its_first_token(server):
    answer = server.post("/v1/chat/completions", **asking("piece", stream=True))
    found = timings(answer.headers["server-timing"])
    assert {"tokenize", "prefill", "total"} <= set(found)


def test_what_no_model_computes_has_no_times(server):
    assert "server-timing" not in server.client.get("/livez").headers


def logged(server: RunningServer, caplog: pytest.LogCaptureFixture, **body: object) -> dict:
    with caplog.at_level(logging.INFO, "modelserver_runtime.access"):
        server.client.post(
            "/v1/chat/completions?key=secret-in-a-path",
            json=body,
            headers={"authorization": "Bearer hf_0123456789abcdef", "x-request-id": "log-1"},
        )
    # The line comes after the answer, when the server's side is done.
    [record] = wait_for_records(server, caplog)
    return json.loads(JsonLines().format(record))


def wait_for_records(server: RunningServer, caplog: pytest.LogCaptureFixture) -> list:
    while True:
        records = [one for one in caplog.records if one.name == "modelserver_runtime.access"]
        if records:
            return records
        server.call(lambda: None)


def test_the_log_has_one_line_for_a_request_without_its_content(server, caplog):
    line = logged(server, caplog, **CHAT)
    assert line["message"] == "POST /v1/chat/completions 200"
    expected = {
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "model": "tiny",
        "prompt_tokens": 5,
        "generated_tokens": 3,
        "level": "info",
    }
    assert {name: line[name] for name in expected} == expected
    assert 0 < line["prefill_seconds"] < line["seconds"]
    assert not {"hello", "secret", "hf_0"} & set(re.findall(r"hello|secret|hf_0", str(line)))


def test_an_unexpected_error_is_logged_with_the_request_it_belongs_to(server, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("modelserver_runtime.rest.health._probe", fail)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines())
    logger = logging.getLogger("modelserver_runtime.access")
    logger.addHandler(handler)
    try:
        answer = server.client.get("/livez", headers={"x-request-id": "log-2"})
        # The line comes after the answer, when the server's side is done.
        while "surprise" not in stream.getvalue():
            server.call(lambda: None)
    finally:
        logger.removeHandler(handler)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    # An earlier request may still have had something to say.
    told = stream.getvalue()
    assert "A request failed request_id=log-2\n" in told
    assert "\nZeroDivisionError: surprise\n" in told


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("there", logging.WARNING, "", 0, message, None, None)
    made.fields = fields
    return made


def test_lines_for_programs_are_json_with_the_fields_of_the_record():
    line = json.loads(JsonLines().format(record('with "quotes"\nand lines', count=3)))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "there",
        "message": 'with "quotes"\nand lines',
        "count": 3,
    }


def test_lines_for_people_end_with_the_fields():
    assert (
        TextLines().format(record("Went well", count=3)).endswith("WARNING there Went well count=3")
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token hf_abcdefgh1234 refused", "token hf_*** refused"),
        ('{"Authorization": "Bearer abc.def-123"}', '{"Authorization": "Bearer ***"}'),
        ("sk-0123456789abc", "sk-***"),
        ("hf_server_requests_total", "hf_server_requests_total"),
        ("the bearer of news", "the bearer of news"),
    ],
)
def test_secrets_never_reach_the_log(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("log_format", "is_container", "is_json"),
    [
        ("Auto", True, True),
        ("Auto", False, False),
        ("Json", False, True),
        ("Text", True, False),
    ],
)
def test_a_container_logs_json_unless_told_otherwise(
    monkeypatch, log_format, is_container, is_json
):
    monkeypatch.setattr("modelserver_runtime.logs.in_container", lambda: is_container)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    install_logging(Settings(log_format=log_format), io.StringIO())
    [handler] = root.handlers
    assert isinstance(handler.formatter, JsonLines) is is_json
