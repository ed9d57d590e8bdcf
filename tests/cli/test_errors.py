"""What goes wrong is said in one sentence, with exit code 1."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from modelserver_cli.arguments import ORDERS, parser
from modelserver_cli.display.words import bar, columns, duration
from support.command_line import Interrupted, command

SERVER = {
    "apiVersion": "modelserver.dev/v1alpha1",
    "kind": "ModelServer",
    "metadata": {"name": "chat", "namespace": "models", "generation": 1},
    "spec": {"model": {"uri": "hf://org/model"}},
}
GROUP = "/apis/modelserver.dev/v1alpha1"


class _Played(BaseHTTPRequestHandler):
    """An API server that knows a few answers by their path."""

    answers: dict[str, tuple[int, Any]]

    def do_GET(self) -> None:
        status, body = self.answers.get(self.path.partition("?")[0], (404, "404 page not found"))
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def api_server(answers: dict[str, tuple[int, Any]]) -> Iterator[str]:
    handler = type("Handler", (_Played,), {"answers": answers})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def kubeconfig(tmp_path):
    def write(url: str) -> str:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
            "contexts": [
                {
                    "name": "here",
                    "context": {"cluster": "here", "user": "me", "namespace": "models"},
                }
            ],
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def said(capsys) -> str:
    return capsys.readouterr().err


def test_without_a_kubeconfig_there_is_no_cluster(tmp_path, capsys):
    assert command("status", "chat", "--kubeconfig", str(tmp_path / "none")).code == 1
    assert said(capsys).startswith("error: There is no cluster to talk to: ")


def test_a_context_that_does_not_exist(kubeconfig, capsys):
    config = kubeconfig("http://127.0.0.1:1")
    assert command("status", "chat", "--kubeconfig", config, "--context", "there").code == 1
    assert "There is no cluster to talk to" in said(capsys)


def test_an_api_server_that_does_not_answer(kubeconfig, capsys):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert command("status", "chat", "--kubeconfig", kubeconfig(url)).code == 1
    err = said(capsys)
    assert err.startswith(f"error: The API server at {url} does not answer: ")
    assert "hint: " in err
    assert len(err.splitlines()) == 2


NOT_FOUND = {"kind": "Status", "reason": "NotFound", "message": "not found"}
FORBIDDEN = {
    "kind": "Status",
    "reason": "Forbidden",
    "message": 'User "me" cannot get modelservers',
}
RUN = {"to": "b", "from": "a", "startTime": "2026-11-21T10:00:00Z"}
PATH = f"{GROUP}/namespaces/models/modelservers/chat"


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({}, "This cluster does not know ModelServers: the CustomResourceDefinition is missing"),
        (
            {GROUP: (200, {"resources": []}), PATH: (404, NOT_FOUND)},
            "There is no ModelServer chat in namespace models",
        ),
        ({PATH: (401, NOT_FOUND)}, "The API server does not accept your credentials"),
        ({PATH: (403, FORBIDDEN)}, 'You may not do that: User "me" cannot get modelservers'),
        ({PATH: (500, "boom")}, "boom"),
    ],
)
@pytest.mark.parametrize("arguments", [("status", "chat"), ("history", "chat"), ("abort", "chat")])
def test_what_the_api_server_says_is_one_sentence(kubeconfig, capsys, answers, sentence, arguments):
    with api_server(answers) as url:
        assert command(*arguments, "--kubeconfig", kubeconfig(url)).code == 1
    assert said(capsys).splitlines()[0] == f"error: {sentence}"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("abort", "chat"), {}, "No rollout of chat is going on that could be told to abort"),
        (
            ("promote", "chat"),
            {"rollout": {**RUN, "phase": "Starting"}},
            "No rollout of chat is going on that could be told to promote: revision b takes over",
        ),
        (
            ("pause", "chat"),
            {"rollout": {**RUN, "phase": "RolledBack", "strategy": "Canary"}},
            "No rollout of chat is going on that could be told to pause: the last one, of",
        ),
        (("retry", "chat"), {}, "No revision of chat has failed, so there is nothing to retry"),
        (("rollback", "chat"), {}, "There is no earlier revision of chat to go back to"),
        (
            ("rollback", "chat", "--to", "ffffffff"),
            {},
            "Revision ffffffff of chat is not kept; kept are none",
        ),
    ],
)
def test_a_command_that_makes_no_sense_is_not_given(
    kubeconfig, capsys, arguments, status, sentence
):
    revisions = "/apis/apps/v1/namespaces/models/controllerrevisions"
    answers = {PATH: (200, {**SERVER, "status": status}), revisions: (200, {"items": []})}
    with api_server(answers) as url:
        assert command(*arguments, "--kubeconfig", kubeconfig(url)).code == 1
    assert said(capsys).startswith(f"error: {sentence}")


def test_ctrl_c_is_clean(kubeconfig, capsys):
    empty = (200, {"items": []})
    answers = {
        PATH: (200, SERVER),
        "/apis/apps/v1/namespaces/models/controllerrevisions": empty,
        "/apis/apps/v1/namespaces/models/deployments": empty,
    }
    with api_server(answers) as url:
        config = kubeconfig(url)
        flags = ("status", "chat", "--watch", "--kubeconfig", config)
        ended = command(*flags, pause=Interrupted(after=3))
    assert (ended.code, said(capsys)) == (130, "")
    assert ended.out.count("models/chat") == 1  # nothing has changed, so it is said once


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "- is no YAML: "),
        ("hello", "- must have Kubernetes objects; found a str"),
        ("kind: Service", "There is no ModelServer in -"),
        ("kind: ModelServer", "A ModelServer in - has no metadata.name; give it one"),
    ],
)
def test_a_file_that_is_none(kubeconfig, capsys, text, sentence):
    config = kubeconfig("http://127.0.0.1:1")
    assert command("plan", "-f", "-", "--kubeconfig", config, stdin=text).code == 1
    assert said(capsys).startswith(f"error: {sentence}")


def test_a_file_that_is_not_there(kubeconfig, capsys, tmp_path):
    config, file = kubeconfig("http://127.0.0.1:1"), tmp_path / "none.yaml"
    assert command("plan", "-f", str(file), "--kubeconfig", config).code == 1
    assert said(capsys) == f"error: {file} cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "The following arguments are required: COMMAND"),
        (("stat", "chat"), "Argument COMMAND: invalid choice: 'stat'"),
        (("status",), "The following arguments are required: NAME"),
        (("status", "chat", "--wat"), "Unrecognized arguments: --wat"),
        (("plan",), "The following arguments are required: -f/--filename"),
    ],
)
def test_wrong_arguments_are_errors_like_all_others(capsys, arguments, sentence):
    assert command(*arguments).code == 1
    err = said(capsys)
    assert err.startswith(f"error: {sentence}")
    assert "--help" in err


@pytest.mark.parametrize("name", ["status", "plan", "history", *ORDERS])
def test_every_command_helps_with_examples(capsys, name):
    with pytest.raises(SystemExit) as ended:
        parser("kubectl modelserver").parse_args([name, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert f"kubectl modelserver {name}" in out
    assert "examples:" in out


def test_places_may_stand_before_or_behind_the_command():
    before = parser("x").parse_args(["-n", "models", "status", "chat"])
    behind = parser("x").parse_args(["status", "chat", "-n", "models"])
    assert before.namespace == behind.namespace == "models"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (119, "119 s"),
        (250, "4 min 10 s"),
        (7200, "2 h 0 min"),
        (260_000, "3 days"),
    ],
)
def test_times_are_said_in_two_units(seconds, words):
    assert duration(seconds) == words


def test_a_bar_shows_anything_above_nothing_and_only_all_is_full():
    assert [bar(percent, ascii_only=True).count("#") for percent in (0, 1, 50, 99, 100)] == [
        *(0, 1, 10, 19, 20),
    ]
    assert len(bar(37)) == 20


def test_columns_lose_nothing():
    assert list(columns([("a", "bbb", ""), ("cc", "d", "e")])) == ["a   bbb", "cc  d    e"]
