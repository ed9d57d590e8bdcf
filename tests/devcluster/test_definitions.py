"""Definitions of other projects: only the pinned ones are taken, and once."""

import json
import zipfile

import pytest
import yaml

from devcluster import definitions
from devcluster.definitions import BUNDLES, BundleName
from devcluster.errors import MissingToolError, NotReadyError, ProgramUnavailableError

NAME = BundleName.GATEWAY_API
BUNDLE = BUNDLES[NAME]
ROOT = f"{BUNDLE.module}@{BUNDLE.version}"
ROUTE = {"kind": "CustomResourceDefinition", "metadata": {"name": "routes.example.com"}}


@pytest.fixture
def go(tmp_path, monkeypatch):
    """A `go` that has the module in its cache, and counts how often it is asked."""
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    archive, asked = tmp_path / "module.zip", tmp_path / "asked"

    def install(files, checksum=BUNDLE.checksum):
        with zipfile.ZipFile(archive, "w") as module:
            for name, documents in files.items():
                module.writestr(f"{ROOT}/{name}", yaml.safe_dump_all(documents))
        answer = tmp_path / "answer.json"
        answer.write_text(json.dumps({"Sum": checksum, "Zip": str(archive)}))
        program = tmp_path / "go"
        program.write_text(f'#!/bin/sh\necho "$*" >> {asked}\ncat {answer}\n')
        program.chmod(0o755)
        return asked

    return install


def test_definitions_are_taken_and_nothing_else_and_only_once(go):
    asked = go(
        {
            "config/crd/standard/routes.yaml": [ROUTE, {"kind": "ValidatingAdmissionPolicy"}, None],
            "config/crd/experimental/routes.yaml": [ROUTE | {"spec": "another"}],
            "config/crd/standard/README.md": ["no manifest"],
        }
    )
    assert definitions.definitions(NAME) == [ROUTE]
    assert definitions.definitions(NAME) == [ROUTE]
    assert asked.read_text().splitlines() == [f"mod download -json {ROOT}"]


def test_another_content_than_the_pinned_one_is_refused(go):
    go({"config/crd/standard/routes.yaml": [ROUTE]}, checksum="h1:other=")
    with pytest.raises(ProgramUnavailableError, match="has the checksum h1:other="):
        definitions.definitions(NAME)
    assert not BUNDLE.file.exists()


def test_a_module_that_has_moved_its_definitions_is_told(go):
    go({"elsewhere/routes.yaml": [ROUTE]})
    with pytest.raises(ProgramUnavailableError, match="has no CustomResourceDefinition in config"):
        definitions.definitions(NAME)


def test_without_go_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="install Go"):
        definitions.definitions(NAME)


class Answers:
    """What `kubectl get` says, one answer after another; the last is said for ever."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)

    def __call__(self, _cluster, *arguments, **_stdin):
        if arguments[0] != "get":
            return ""
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return json.dumps({"metadata": {"name": "httproutes"}} | status)


ESTABLISHED = {"status": {"conditions": [{"type": "Established", "status": "True"}]}}


def test_a_definition_that_has_no_conditions_yet_is_waited_for(monkeypatch):
    """As the API server shows it between its creation and the first look of its controller."""
    answers = Answers({}, {"status": {"conditions": None}}, ESTABLISHED)
    monkeypatch.setattr(definitions, "_kubectl", answers)
    monkeypatch.setattr(definitions, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(definitions, "definitions", lambda _name: [ROUTE])
    definitions.install_definitions(None, [NAME])
    assert answers.statuses == [ESTABLISHED]


def test_a_definition_that_is_never_established_is_named(monkeypatch):
    monkeypatch.setattr(definitions, "_kubectl", Answers({"status": {"conditions": None}}))
    monkeypatch.setattr(definitions, "_ESTABLISHED_SECONDS", -1)
    monkeypatch.setattr(definitions, "definitions", lambda _name: [ROUTE])
    with pytest.raises(NotReadyError, match="httproutes"):
        definitions.install_definitions(None, [NAME])
