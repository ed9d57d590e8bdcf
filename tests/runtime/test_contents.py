"""The digest of a model's directory: of what is in the files, wherever and whenever they came."""

import os
from pathlib import Path

import pytest

from modelserver_runtime.artifacts import contents
from modelserver_runtime.artifacts.contents import contents_digest
from modelserver_runtime.artifacts.manifest import FOLDER, Manifest, ManifestFile, write_manifest
from modelserver_runtime.artifacts.source import ArtifactPolicy


def a_model(folder: Path, **files: bytes) -> Path:
    for name, content in {"config": b"{}", "weights": b"12345", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_equal_contents_are_equal_on_every_machine(tmp_path):
    one, other = a_model(tmp_path / "one"), a_model(tmp_path / "other")
    os.utime(other / "weights", (1, 1))
    assert contents_digest(one) == contents_digest(other)


@pytest.mark.parametrize(
    "changes", [{"weights": b"12346"}, {"more": b""}, {"1_Pooling__config": b"{}"}]
)
def test_other_contents_are_told_apart(tmp_path, changes):
    one, other = a_model(tmp_path / "one"), a_model(tmp_path / "other", **changes)
    assert contents_digest(one) != contents_digest(other)


def test_a_file_that_is_only_called_differently_is_told_apart(tmp_path):
    one = a_model(tmp_path / "one", first=b"a", second=b"b")
    other = a_model(tmp_path / "other", first=b"b", second=b"a")
    assert contents_digest(one) != contents_digest(other)


@pytest.mark.parametrize("place", [0, 500, 999])
def test_of_large_files_samples_are_read_from_all_over_them(tmp_path, monkeypatch, place):
    monkeypatch.setattr(contents, "_WHOLE_BYTES", 100)
    monkeypatch.setattr(contents, "_SAMPLE_BYTES", 100)
    weights = bytes(1000)
    changed = weights[:place] + b"x" + weights[place + 1 :]
    digests = set()
    for name, content in (("one", weights), ("other", changed), ("third", weights)):
        folder = a_model(tmp_path / name, weights=content)
        os.utime(folder / "weights", (1, 1))
        digests.add(contents_digest(folder))
    assert len(digests) == 2


def test_a_large_file_that_was_written_again_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "_WHOLE_BYTES", 100)
    monkeypatch.setattr(contents, "_SAMPLE_BYTES", 10)
    folder = a_model(tmp_path, weights=bytes(10_000))
    before = contents_digest(folder)
    os.utime(folder / "weights", (1, 1))
    assert contents_digest(folder) != before


def a_manifest(*files: ManifestFile, revision: str = "a" * 40) -> Manifest:
    return Manifest(
        repository="org/model",
        revision=revision,
        policy=ArtifactPolicy(allow_pickle=False, trust_remote_code=False),
        files=files,
        is_complete=True,
    )


def test_a_fetched_model_is_what_the_hub_says_it_is(tmp_path):
    files = [
        ManifestFile(path="config", size=2, digest="c"),
        ManifestFile(path="weights", size=5, digest="w"),
    ]
    digests = []
    for name, listed in (("one", files), ("other", files[::-1]), ("third", files[:1])):
        folder = a_model(tmp_path / name)
        write_manifest(folder, a_manifest(*listed))
        digests.append(contents_digest(folder))
    assert digests[0] == digests[1] != digests[2]


def test_a_manifest_that_does_not_fit_the_files_is_not_believed(tmp_path):
    folder = a_model(tmp_path)
    plain = contents_digest(folder)
    write_manifest(folder, a_manifest(ManifestFile(path="weights", size=4, digest="w")))
    assert (folder / FOLDER).is_dir()
    assert contents_digest(folder) == plain
