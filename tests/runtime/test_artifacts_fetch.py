"""What is in the directory after a fetch: killed, repeated, moved, changed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelserver_runtime.artifacts import (
    ArtifactPolicy,
    HubAccess,
    ModelSource,
    Phase,
    Progress,
    Tuning,
    fetch,
)
from modelserver_runtime.artifacts.patience import Pace
from modelserver_runtime.errors import ArtifactNotFound
from support.artifacts import model_files, safetensors_bytes
from support.hub import a_hub
from support.waiting import wait_until

NAME = "acme/chat"
SIZE = 3_000_000
ROOT = Path(__file__).parents[2]
FETCH = """
import sys
from pathlib import Path
from modelserver_runtime.artifacts import HubAccess, ModelSource, Progress, fetch
url, revision, directory = sys.argv[1:]
fetch(
    ModelSource(uri="hf://acme/chat", revision=revision),
    directory=Path(directory), hub=HubAccess(endpoint=url), progress=Progress(),
)
"""


@pytest.fixture
def hub():
    with a_hub() as hub:
        yield hub


@pytest.fixture
def commit(hub):
    return hub.commit(NAME, model_files(size=SIZE))


def fetched(hub, directory, revision="main", *, progress=None, piece_bytes=1 << 30, **policy):
    return fetch(
        ModelSource(uri=f"hf://{NAME}", revision=revision, policy=ArtifactPolicy(**policy)),
        directory=directory,
        hub=HubAccess(endpoint=hub.url, patience_seconds=30),
        progress=progress or Progress(),
        tuning=Tuning(pace=Pace(first_seconds=0.01), piece_bytes=piece_bytes),
    )


def assert_holds(directory, files):
    """Exactly these files, as real files."""
    found = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and ".modelserver" not in path.parts
    }
    assert found == files
    assert not [path for path in directory.rglob("*") if path.is_symlink()]


def weights_requests(hub):
    return [seen for seen in hub.seen if seen.path.startswith("/_large/")]


def test_a_snapshot_comes_as_real_files(hub, commit, tmp_path):
    summary = fetched(hub, tmp_path, commit)
    files = model_files(size=SIZE)
    assert_holds(tmp_path, files)
    assert (summary.revision, summary.files) == (commit, 3)
    assert summary.size_bytes == sum(map(len, files.values()))


def test_files_in_folders_come_into_folders(hub, tmp_path):
    files = model_files() | {"1_Pooling/config.json": b"{}"}
    hub.commit(NAME, files)
    fetched(hub, tmp_path)
    assert_holds(tmp_path, files)


def test_an_empty_file_needs_no_bytes(hub, tmp_path):
    files = model_files() | {"merges.txt": b""}
    hub.commit(NAME, files)
    fetched(hub, tmp_path)
    assert_holds(tmp_path, files)


def test_equal_files_do_not_meet_in_one_partial_file(hub, tmp_path):
    files = model_files() | {f"part-{n}.safetensors": safetensors_bytes(100_000) for n in range(8)}
    hub.commit(NAME, files)
    fetched(hub, tmp_path)
    assert_holds(tmp_path, files)


def test_a_large_file_comes_in_pieces(hub, commit, tmp_path):
    fetched(hub, tmp_path, commit, piece_bytes=1_000_000)
    size = len(safetensors_bytes(SIZE))
    assert [seen.range for seen in weights_requests(hub)] == [
        "bytes=0-999999",
        "bytes=1000000-1999999",
        "bytes=2000000-2999999",
        f"bytes=3000000-{size - 1}",
    ]
    assert_holds(tmp_path, model_files(size=SIZE))


def test_nothing_is_asked_when_the_commit_is_there(hub, commit, tmp_path):
    first = fetched(hub, tmp_path, commit)
    hub.stop()
    progress = Progress()
    assert fetched(hub, tmp_path, commit, progress=progress) == first
    assert progress.report().percent == 100


def test_a_branch_is_looked_up_again_and_nothing_is_downloaded(hub, commit, tmp_path):
    fetched(hub, tmp_path, "main")
    hub.seen.clear()
    assert fetched(hub, tmp_path, "main").revision == commit
    assert {seen.path for seen in hub.seen} == {f"/api/models/{NAME}/revision/main"}


def test_a_moved_branch_leaves_a_pinned_commit_as_it_was(hub, commit, tmp_path):
    moved = hub.commit(NAME, model_files(size=SIZE, seed=7))
    assert moved != commit
    fetched(hub, tmp_path, commit)
    assert_holds(tmp_path, model_files(size=SIZE))


def test_another_commit_in_the_same_directory_replaces_only_what_differs(hub, tmp_path):
    old = model_files(size=SIZE) | {"vocab.json": b"{}"}
    new = model_files(size=SIZE, seed=7) | {"tokenizer.json": old["tokenizer.json"]}
    fetched(hub, tmp_path, hub.commit(NAME, old))
    hub.seen.clear()
    fetched(hub, tmp_path, hub.commit(NAME, new))
    assert_holds(tmp_path, new)
    asked = {seen.path.rpartition("/")[2] for seen in hub.seen if "/resolve/" in seen.path}
    assert asked == {"model.safetensors"}


def test_files_of_others_in_the_directory_stay(hub, commit, tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    fetched(hub, tmp_path, commit)
    assert (tmp_path / "notes.md").read_text() == "mine"


def test_consent_given_later_brings_what_was_left_out(hub, tmp_path):
    commit = hub.commit(NAME, model_files() | {"modeling.py": b"x = 1"})
    fetched(hub, tmp_path, commit)
    fetched(hub, tmp_path, commit, trust_remote_code=True)
    assert (tmp_path / "modeling.py").exists()
    fetched(hub, tmp_path, commit)
    assert not (tmp_path / "modeling.py").exists()


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(b"short"), lambda path: os.truncate(path, 100)],
)
def test_a_file_that_was_lost_or_cut_comes_again(hub, commit, tmp_path, damage):
    fetched(hub, tmp_path, commit)
    damage(tmp_path / "model.safetensors")
    fetched(hub, tmp_path, commit)
    assert_holds(tmp_path, model_files(size=SIZE))


def test_a_symbolic_link_is_replaced_not_followed(hub, commit, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").symlink_to(elsewhere)
    fetched(hub, directory, commit)
    assert elsewhere.read_bytes() == b"precious"
    assert_holds(directory, model_files(size=SIZE))


def test_an_unreadable_record_is_no_record(hub, commit, tmp_path):
    fetched(hub, tmp_path, commit)
    (tmp_path / ".modelserver" / "manifest.json").write_text("{")
    fetched(hub, tmp_path, commit)
    assert_holds(tmp_path, model_files(size=SIZE))
    assert len(weights_requests(hub)) == 1, "the weights were there and needed no second download"


@pytest.mark.parametrize("times", [1, 5])
def test_a_broken_connection_goes_on_where_it_broke(hub, commit, tmp_path, times):
    hub.break_("cut", path="/_large/*", at=400_000, times=times)
    fetched(hub, tmp_path, commit)
    starts = [
        int(seen.range.removeprefix("bytes=").partition("-")[0]) for seen in weights_requests(hub)
    ]
    assert starts == [400_000 * n for n in range(times + 1)]
    assert_holds(tmp_path, model_files(size=SIZE))


def test_a_server_without_ranges_starts_again_and_is_right(hub, commit, tmp_path):
    hub.break_("cut", path="/_large/*", at=400_000, times=1)
    hub.break_("no-ranges", path="/_large/*")
    fetched(hub, tmp_path, commit)
    assert_holds(tmp_path, model_files(size=SIZE))


def test_a_failing_file_stops_the_others(hub, tmp_path):
    """The first failure ends the fetch, though another file would stall for ever."""
    hub.commit(NAME, model_files(size=SIZE))
    hub.break_("stall", path="/_large/*", at=100_000)
    hub.break_("status", path="*/tokenizer.json", status=404)
    mending = threading.Timer(0.5, hub.mend)
    mending.start()
    with pytest.raises(ArtifactNotFound):
        fetched(hub, tmp_path)
    mending.join()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
def test_a_killed_fetch_goes_on_in_the_same_directory(hub, commit, tmp_path):
    kills = 2
    for kill in range(1, kills + 1):
        hub.stalled.clear()
        hub.released.clear()
        stall = hub.break_("stall", path="/_large/*", at=500_000)
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, hub.url, commit, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "runtime")},
        )
        assert hub.stalled.wait(60)
        wait_until(
            lambda kill=kill: partial_bytes(tmp_path) == 500_000 * kill,
            timeout=20,
            what="the bytes that were sent are on disk",
            interval=0.02,
        )
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
        hub.released.set()
        hub.faults.remove(stall)
    hub.seen.clear()
    fetched(hub, tmp_path, commit)
    assert [seen.range.partition("-")[0] for seen in weights_requests(hub)] == [
        f"bytes={500_000 * kills}"
    ]
    assert not [seen for seen in hub.seen if seen.path.endswith("config.json")], "it was there"
    assert_holds(tmp_path, model_files(size=SIZE))
    assert not (tmp_path / ".modelserver" / "partial").exists()


def partial_bytes(directory):
    return sum(path.stat().st_size for path in (directory / ".modelserver" / "partial").glob("*"))


def test_progress_never_goes_back_and_ends_at_all(hub, commit, tmp_path):
    hub.break_("corrupt", path="/_large/*", at=2_000_000, times=1)
    progress = Recorded()
    fetched(hub, tmp_path, commit, progress=progress)
    reports = progress.reports
    assert len(reports) > 3
    assert [r.done_bytes for r in reports] == sorted(r.done_bytes for r in reports)
    assert [r.percent for r in reports] == sorted(r.percent for r in reports)
    assert reports[-1].done_bytes == reports[-1].total_bytes > SIZE
    assert any("model.safetensors is corrupt" in r.message for r in reports)
    assert {r.phase for r in reports} == {Phase.FETCHING}


class Recorded(Progress):
    """Keeps a report of every change."""

    def __init__(self):
        super().__init__()
        self.reports = []

    def add(self, size):
        super().add(size)
        self.reports.append(self.report())

    def lost(self, size):
        super().lost(size)
        self.reports.append(self.report())
