"""What the commands say when there is nothing to work on, or nothing that fits."""

import pytest

from devcluster import __main__ as cli
from devcluster import cluster, node_up
from devcluster.record import Mode


@pytest.fixture(autouse=True)
def home(short_path, monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_HOME", str(short_path / "home"))
    return short_path / "home"


@pytest.mark.parametrize("command", ["status", "kubeconfig"])
def test_a_cluster_that_is_not_there_is_named_with_the_way_to_it(command, capsys):
    assert cli.main([command, "--name", "none"]) == 1
    assert "python -m devcluster up --name none" in capsys.readouterr().err


def test_taking_down_what_is_not_there_is_no_error(capsys):
    assert cli.main(["down", "--name", "none"]) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_logs_of_an_unknown_program_name_those_there_are(home, capsys):
    (home / "dev/logs").mkdir(parents=True)
    (home / "dev/logs/etcd.log").write_text("x")
    assert cli.main(["logs", "nginx"]) == 1
    assert "logs of dev: etcd" in capsys.readouterr().err


def test_an_unknown_program_is_not_built(capsys):
    assert cli.main(["build", "nginx"]) == 1
    assert "nginx is no program of the cluster; known: etcd" in capsys.readouterr().err


def test_images_need_a_running_node(capsys):
    assert cli.main(["load-image", "localhost/x:1"]) == 1
    assert "has no running node to load images into" in capsys.readouterr().err


def test_a_node_without_root_is_refused_with_the_way_out(monkeypatch, capsys):
    monkeypatch.setattr(node_up.os, "geteuid", lambda: 1000)
    assert cli.main(["up"]) == 1
    assert (
        "run it with sudo, or take a cluster without a node: --api-only" in capsys.readouterr().err
    )


def test_an_interrupted_command_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "up", interrupted)
    assert cli.main(["up", "--api-only"]) == 130
    assert "the same command again resumes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "mode", "controllers"),
    [
        ([], Mode.NODE, False),
        (["--api-only"], Mode.API_ONLY, False),
        (["--api-only", "--controllers"], Mode.API_ONLY, True),
    ],
)
def test_up_asks_for_the_mode_that_was_given(monkeypatch, arguments, mode, controllers):
    asked = {}

    def up(name, **options):
        asked.update(options, name=name)
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "up", up)
    cli.main(["up", *arguments])
    assert asked == {"name": "dev", "mode": mode, "controllers": controllers}


def test_the_names_of_the_images_are_printed_without_building(capsys):
    assert cli.main(["images", "--print"]) == 0
    operator, runtime = capsys.readouterr().out.split()
    assert operator.startswith("localhost/modelserver-operator:")
    assert runtime.startswith("localhost/modelserver-runtime:")
