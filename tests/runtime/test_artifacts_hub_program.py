"""The hub as a program of its own, as a pod runs it: standard library only."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from modelserver_runtime.artifacts import HubAccess, ModelSource, Progress, Tuning, fetch, resolve
from modelserver_runtime.artifacts.patience import Pace
from modelserver_runtime.errors import ArtifactAuth, ArtifactUnreachable
from support.artifacts import model_files
from support.waiting import wait_until

TESTS = Path(__file__).parents[1]
SOURCE = ModelSource(uri="hf://acme/chat")


@pytest.fixture
def address(tmp_path):
    for name, content in model_files().items():
        path = tmp_path / "hub" / "acme" / "chat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    options = [
        "--dir",
        str(tmp_path / "hub"),
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--token",
        "friend",
    ]
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "support.hub", *options, "--gated", "acme/chat"],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = wait_until(process.stdout.readline, timeout=20, what="the hub says its address")
        yield line.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def access(address, token="friend"):
    return HubAccess(endpoint=address, token=token, patience_seconds=0.1)


def send(method, url, body=None):
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request, timeout=5) as response:
        assert response.status == 200


def test_a_directory_becomes_a_repository(address, tmp_path):
    target = tmp_path / "model"
    summary = fetch(SOURCE, directory=target, hub=access(address), progress=Progress())
    assert summary.files == 3
    assert (target / "model.safetensors").read_bytes() == model_files()["model.safetensors"]
    with pytest.raises(ArtifactAuth, match="is gated"):
        resolve(SOURCE, hub=access(address, token=None), progress=Progress())


def test_faults_are_set_and_lifted_over_http(address):
    quick = Tuning(pace=Pace(first_seconds=0.01))
    send("POST", f"{address}/_faults", [{"kind": "status", "status": 502}])
    with pytest.raises(ArtifactUnreachable, match="answers 502"):
        resolve(SOURCE, hub=access(address), progress=Progress(), tuning=quick)
    send("DELETE", f"{address}/_faults")
    assert resolve(SOURCE, hub=access(address), progress=Progress(), tuning=quick).files == 3
