"""What is taken off the machine, and what is left alone."""

import json
import socket
from pathlib import Path

import pytest

from devcluster import machine_traces, teardown
from devcluster.lock import locked
from devcluster.network import comment_of
from devcluster.paths import ClusterFolder
from devcluster.process import boot_id


def test_mounts_below_a_folder_are_found_last_first():
    mounts = teardown.mounts_below(Path("/"))
    assert mounts.index(Path("/dev/pts")) < mounts.index(Path("/dev"))


@pytest.mark.parametrize(
    ("field", "path"),
    [("/plain", "/plain"), ("/a\\040b", "/a b"), ("/a\\134040", "/a\\040"), ("/t\\011", "/t\t")],
)
def test_escapes_of_the_mount_table_are_undone(field, path):
    assert teardown.unescaped(field) == path


def test_only_a_shim_with_our_socket_is_ours():
    assert teardown.is_shim_of(["/x/containerd-shim-runc-v2", "-address", "/s.sock"], "/s.sock")
    assert not teardown.is_shim_of(["/x/containerd-shim-runc-v2", "-address", "/o"], "/s.sock")
    assert not teardown.is_shim_of(["vim", "/s.sock"], "/s.sock")


@pytest.mark.parametrize(
    ("rule", "comment"),
    [
        ("-A FORWARD -i dc0 -m comment --comment devcluster-dev -j ACCEPT", "devcluster-dev"),
        ('-A FORWARD -m comment --comment "devcluster-dev" -j DROP', "devcluster-dev"),
        ("-A FORWARD -j ACCEPT", ""),
    ],
)
def test_firewall_rules_are_known_by_theircomment_of(rule, comment):
    assert comment_of(rule.split()) == comment


def test_after_a_restart_of_the_machine_running_things_are_forgotten(short_path):
    folder = ClusterFolder(short_path / "dev")
    for path in (folder.run, folder.processes, folder.etcd):
        path.mkdir(parents=True)
    (folder.root / "boot-id").write_text("an earlier boot")
    teardown.forget_last_boot(folder)
    assert not folder.run.exists()
    assert not folder.processes.exists()
    assert folder.etcd.exists()
    assert (folder.root / "boot-id").read_text() == boot_id()


def test_within_one_boot_nothing_is_forgotten(short_path):
    folder = ClusterFolder(short_path / "dev")
    folder.run.mkdir(parents=True)
    teardown.forget_last_boot(folder)
    teardown.forget_last_boot(folder)
    assert folder.run.exists()


@pytest.fixture
def machine(short_path, monkeypatch):
    """A pretended machine: settings below proc, one folder that is there and one that is not."""
    monkeypatch.setenv("DEVCLUSTER_HOME", str(short_path / "home"))
    (short_path / "home").mkdir()
    (short_path / "proc").mkdir()
    (short_path / "proc/panic").write_text("1\n")
    (short_path / "present").mkdir()
    folders = (
        str(short_path / "absent/sub"),
        str(short_path / "absent"),
        str(short_path / "present"),
    )
    monkeypatch.setattr(machine_traces, "_PROC", short_path / "proc")
    monkeypatch.setattr(machine_traces, "_SETTINGS", ("panic", "unknown"))
    monkeypatch.setattr(machine_traces, "_FOLDERS", folders)
    monkeypatch.setattr(machine_traces, "_LISTENING_FOLDERS", folders[:1])
    return short_path


def test_the_machine_gets_back_what_the_first_node_found(machine):
    machine_traces.remember_machine()
    (machine / "proc/panic").write_text("10")
    machine_traces.remember_machine()  # the second node
    (machine / "absent/sub").mkdir(parents=True)
    machine_traces.restore_machine()
    assert (machine / "proc/panic").read_text() == "1"
    assert not (machine / "absent").exists()
    assert (machine / "present").exists()
    assert not list((machine / "home").iterdir())


def test_a_folder_that_somebody_uses_by_now_is_kept(machine):
    machine_traces.remember_machine()
    (machine / "absent/sub").mkdir(parents=True)
    (machine / "absent/theirs").write_text("x")
    machine_traces.restore_machine()
    assert (machine / "absent/theirs").exists()
    assert not (machine / "absent/sub").exists()


def test_only_sockets_without_a_listener_are_removed(short_path):
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as dead:
        alive.bind(str(short_path / "alive"))
        alive.listen()
        dead.bind(str(short_path / "dead"))
        dead.close()
        (short_path / "file").write_text("x")
        machine_traces.remove_dead_sockets(short_path)
        assert sorted(path.name for path in short_path.iterdir()) == ["alive", "file"]


def test_results_of_other_clusters_stay(short_path, monkeypatch):
    monkeypatch.setattr(machine_traces, "_NETWORK_RESULTS", short_path)
    for name in ("one", "one-more"):
        content = {"netns": f"/home/{name}/run/netns"}
        (short_path / name).write_text(json.dumps(content, separators=(",", ":")))
    machine_traces.remove_network_results(Path("/home/one"))
    assert [path.name for path in short_path.iterdir()] == ["one-more"]


def test_a_lock_may_be_held_by_who_removes_the_folder(short_path):
    with locked(short_path / "x"):
        (short_path / "x").rmdir()
    with locked(short_path / "x"):
        assert (short_path / "x").is_dir()
