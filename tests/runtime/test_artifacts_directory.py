"""A directory is judged before anything is loaded from it."""

import contextlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from modelserver_runtime.artifacts import ArtifactPolicy, check_directory
from modelserver_runtime.artifacts.safetensors_header import UnreadableHeader, expected_size
from modelserver_runtime.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactRefused,
    UnsupportedModel,
)
from support.artifacts import CONFIG, model_files, safetensors_bytes

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
INDEX = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}).encode()


def put(directory, files):
    for path, content in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
    return directory


def header(content):
    return struct.pack("<Q", len(content)) + content


def test_a_whole_model_passes_and_is_measured(tmp_path):
    files = model_files() | {"1_Pooling/config.json": b"{}"}
    summary = check_directory(put(tmp_path, files), policy=ArtifactPolicy())
    assert summary.as_json() == {
        "revision": "",
        "sizeBytes": sum(map(len, files.values())),
        "files": 4,
    }


def test_a_missing_directory(tmp_path):
    with pytest.raises(ArtifactNotFound, match="does not exist"):
        check_directory(tmp_path / "nowhere", policy=ArtifactPolicy())


def test_pickle_passes_with_consent(tmp_path):
    put(tmp_path, {"config.json": CONFIG, "pytorch_model.bin": b"x"})
    assert check_directory(tmp_path, policy=ArtifactPolicy(allow_pickle=True)).files == 2


WHOLE = safetensors_bytes(1000)
CASES = {
    "empty": ({}, ArtifactNotFound, "is empty"),
    "no config": (
        {"models/chat/config.json": CONFIG},
        ArtifactNotFound,
        "has no config.json; it has models",
    ),
    "no weights": (
        {"config.json": CONFIG, "a.gguf": b"x"},
        UnsupportedModel,
        "it has a.gguf, config.json",
    ),
    "pickle only": (
        {"config.json": CONFIG, "a.bin": b"x"},
        ArtifactRefused,
        r"pickle only \(a.bin\)",
    ),
    "config is a list": (model_files() | {"config.json": b"[]"}, ArtifactCorrupt, "no JSON object"),
    "config is no JSON": (model_files() | {"config.json": b"{"}, ArtifactCorrupt, "is not JSON"),
    "config is empty": (
        model_files() | {"config.json": b""},
        ArtifactCorrupt,
        "config.json is empty",
    ),
    "truncated": (
        model_files() | {"model.safetensors": WHOLE[:-100]},
        ArtifactCorrupt,
        f"its header says {len(WHOLE)} bytes, and it has {len(WHOLE) - 100}",
    ),
    "too long": (
        model_files() | {"model.safetensors": WHOLE + b"x"},
        ArtifactCorrupt,
        "its header says",
    ),
    "header cut": (
        model_files() | {"model.safetensors": WHOLE[:20]},
        ArtifactCorrupt,
        "its header should have",
    ),
    "shorter than a length": (
        model_files() | {"model.safetensors": b"abc"},
        ArtifactCorrupt,
        "3 bytes",
    ),
    "empty weights": (model_files() | {"model.safetensors": b""}, ArtifactCorrupt, "is empty"),
    "web page": (
        model_files() | {"model.safetensors": b"<html>not found</html>"},
        ArtifactCorrupt,
        "no safetensors file",
    ),
    "header no JSON": (
        model_files() | {"model.safetensors": header(b"nope")},
        ArtifactCorrupt,
        "header is not",
    ),
    "header a list": (
        model_files() | {"model.safetensors": header(b"[1]")},
        ArtifactCorrupt,
        "header is not",
    ),
    "weights a pointer": (
        model_files() | {"model.safetensors": POINTER},
        ArtifactCorrupt,
        "Git LFS pointer",
    ),
    "shard missing": (
        {
            "config.json": CONFIG,
            "one.safetensors": WHOLE,
            "model.safetensors.index.json": INDEX,
        },
        ArtifactCorrupt,
        "names 1 files that are not there, first two.safetensors",
    ),
    "index without map": (
        model_files() | {"model.safetensors.index.json": b"{}"},
        ArtifactCorrupt,
        "has no weight_map",
    ),
}


@pytest.mark.parametrize(("files", "failure", "sentence"), CASES.values(), ids=CASES)
def test_what_cannot_be_loaded_is_said(tmp_path, files, failure, sentence):
    with pytest.raises(failure, match=sentence) as caught:
        check_directory(put(tmp_path, files), policy=ArtifactPolicy())
    assert caught.value.hint


def test_a_pointer_tells_how_to_get_the_file(tmp_path):
    put(tmp_path, model_files() | {"model.safetensors": POINTER})
    with pytest.raises(ArtifactCorrupt) as caught:
        check_directory(tmp_path, policy=ArtifactPolicy())
    assert "git lfs pull" in caught.value.hint


def test_files_of_the_library_itself_have_the_size_their_header_says(tmp_path):
    content = save({"a": np.zeros((3, 5), np.float32), "b": np.ones(7, np.int8)}, {"format": "pt"})
    path = put(tmp_path, {"x.safetensors": content}) / "x.safetensors"
    assert expected_size(path) == len(content)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_another_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(UnreadableHeader):
        assert expected_size(path) >= 8
