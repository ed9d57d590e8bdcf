"""The process of the operator: what it says when it cannot start."""

import os
import subprocess
import sys


def run(*arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KUBE", "MODELSERVER_"))}
    return subprocess.run(
        [sys.executable, "-m", "modelserver_operator", *arguments],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_says_what_it_does_and_where_the_settings_are():
    done = run("--help")
    assert done.returncode == 0
    assert "keeps their child objects right" in done.stdout
    assert "docs/operations.md" in done.stdout


def test_without_a_way_to_an_api_server_it_says_what_to_do():
    done = run("run", MODELSERVER_OPERATOR_RUNTIME_IMAGE="runtime:1")
    assert done.returncode == 2
    assert "name a kubeconfig file with --kubeconfig or KUBECONFIG" in done.stderr


def test_a_wrong_setting_is_named_with_what_is_allowed():
    done = run("run", MODELSERVER_OPERATOR_CONCURRENCY="0")
    assert done.returncode == 2
    assert done.stderr.startswith("modelserver-operator: MODELSERVER_OPERATOR_")
    assert "Traceback" not in done.stderr
