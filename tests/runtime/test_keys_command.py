"""`modelserver-runtime keys`: a key is printed once, and what is kept is found by a server."""

import io
import json
import sys
from pathlib import Path

import pytest
import yaml

from modelserver_runtime import __main__ as command_line
from modelserver_runtime.access.directory import KeyDirectory
from modelserver_runtime.access.principal import Scope
from modelserver_runtime.access.secret import digest_of, is_secret, new_secret


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs `keys` with arguments; the exit code, what was printed, and what was said of errors."""
    for name in ("MODELSERVER_REDIS_URL", "MODELSERVER_ACCESS_STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODELSERVER_TERMINATION_LOG", "/dev/null")

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        code = command_line.run(["keys", *arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def make(keys, *arguments: str) -> dict:
    code, out, _ = keys("generate", "--name", "ci", "--output", "json", *arguments)
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("place", ["file", "redis"])
def test_a_key_is_made_listed_and_revoked(keys, place, tmp_path, monkeypatch, request):
    if place == "redis":
        server = request.getfixturevalue("redis_server")
        monkeypatch.setenv("MODELSERVER_REDIS_URL", server.url)
        monkeypatch.setenv("MODELSERVER_REDIS_TIMEOUT_SECONDS", "5")
    where = [] if place == "redis" else ["--access-state-directory", str(tmp_path)]
    made = make(keys, "--scopes", "admin,metrics", "--models", "a,b-*", *where)
    assert (made["kept_in"], made["scopes"]) == (place, ["admin", "metrics"])
    assert is_secret(made["key"])
    assert made["hash"] == f"sha256:{digest_of(made['key'])}"
    code, out, _ = keys("list", *where)
    assert code == 0
    header, row = out.splitlines()
    assert header.split() == ["id", "name", "prefix", "scopes", "models", "expires"]
    assert row.split() == [made["id"], "ci", made["prefix"], "admin,metrics", "a,b-*"]
    assert made["key"] not in out
    _, out, _ = keys("list", "--output", "json", *where)
    assert [one["id"] for one in json.loads(out)["keys"]] == [made["id"]]
    assert made["hash"] not in out
    assert keys("revoke", made["id"], *where)[0] == 0
    code, _, err = keys("revoke", made["id"], *where)
    assert code == 2
    assert f"There is no generated key '{made['id']}'" in err


def test_a_secret_is_printed_that_a_server_reads(keys, tmp_path):
    _, out, _ = keys(
        *("generate", "--name", "team a", "--scopes", "admin", "--expires-in", "90d"),
        *("--requests-per-minute", "60", "--output", "secret"),
    )
    manifest = yaml.safe_load(out)
    assert manifest["kind"] == "Secret"
    for name, content in manifest["stringData"].items():
        (tmp_path / name).write_text(content)
    [key] = KeyDirectory(tmp_path).state.keys.values()
    secret = out.splitlines()[0].rpartition(" ")[2]
    assert key.digest == digest_of(secret)
    assert secret not in json.dumps(manifest)
    assert (key.name, key.scopes) == ("team a", {Scope.ADMIN})
    assert key.limits.requests_per_minute == 60
    assert key.expires is not None
    assert key.created is not None
    assert (key.expires - key.created).days == 90


def test_without_a_place_the_record_is_printed(keys, tmp_path):
    code, out, _ = keys("generate", "--name", "ci")
    assert code == 0
    assert "Its hash is kept: nowhere." in out
    (tmp_path / "ci.yaml").write_text(out.partition("makes it known:\n")[2])
    [key] = KeyDirectory(tmp_path).state.keys.values()
    assert key.digest == digest_of(out.split()[0])


def test_a_key_is_hashed_from_standard_input(keys):
    secret = new_secret()
    assert keys("hash", given=f"{secret}\n") == (0, f"sha256:{digest_of(secret)}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hash"], "Standard input holds no key"),
        (["list"], "There is no place where generated keys are kept"),
        (["revoke", "a"], "There is no place where generated keys are kept"),
        (["generate"], "the following arguments are required: --name"),
        (["generate", "--name", "a", "--expires-in", "soon"], "--expires-in is 'soon'; it must"),
        (["generate", "--name", "a", "--scopes", "root"], "--scopes is 'root': Input should be"),
        (["generate", "--name", "a", "--requests-per-minute", "0"], "--requests-per-minute is 0"),
        (["generate", "--name", "a", "--highest-priority", "top"], "--highest-priority is 'top'"),
    ],
)
def test_a_wrong_command_is_refused_with_a_sentence(keys, arguments, says):
    code, out, err = keys(*arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_a_redis_that_does_not_answer_is_said(keys, monkeypatch, redis_server):
    monkeypatch.setenv("MODELSERVER_REDIS_URL", redis_server.url)
    redis_server.kill()
    code, _, err = keys("generate", "--name", "a")
    assert code == 50
    assert "Redis does not answer, so it is not sure that the key is kept" in err


def test_a_directory_that_is_none_is_said(keys, tmp_path: Path):
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "state")
    code, _, err = keys("generate", "--name", "a", "--access-state-directory", place)
    assert code == 50
    assert "cannot be kept in" in err
