"""Processors and memory are those of the control group, not of the machine."""

import os
from pathlib import Path

import pytest

from modelserver_runtime.backends.machine import available_memory_bytes, usable_threads

MANY = 64


@pytest.fixture(autouse=True)
def many_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))


def a_group(root: Path, path: str, **files: str) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def membership(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("quota", "threads"),
    [("max 100000", MANY), ("200000 100000", 2), ("390000 100000", 3), ("20000 100000", 1)],
)
def test_version_2_quotas_are_rounded_down(tmp_path, quota, threads):
    a_group(tmp_path, "pod", cpu__max=quota)
    assert usable_threads(tmp_path, membership(tmp_path, "0::/pod")) == threads


def test_the_smallest_quota_above_counts(tmp_path):
    a_group(tmp_path, "slice/pod", cpu__max="max 100000")
    a_group(tmp_path, "slice", cpu__max="400000 100000")
    assert usable_threads(tmp_path, membership(tmp_path, "0::/slice/pod")) == 4


@pytest.mark.parametrize(("quota", "threads"), [("-1", MANY), ("300000", 3)])
def test_version_1_quotas_are_understood(tmp_path, quota, threads):
    files = {"cpu__cfs_quota_us": quota, "cpu__cfs_period_us": "100000"}
    a_group(tmp_path, "cpu,cpuacct/docker/abc", **files)
    line = membership(tmp_path, "4:cpu,cpuacct:/docker/abc", "5:memory:/docker/abc")
    assert usable_threads(tmp_path, line) == threads


def test_inside_a_container_the_root_is_its_own_group(tmp_path):
    a_group(tmp_path, ".", cpu__max="250000 100000")
    assert usable_threads(tmp_path, membership(tmp_path, "0::/../../far/away")) == 2


def test_memory_left_is_the_limit_less_what_is_used_and_not_page_cache(tmp_path):
    a_group(
        tmp_path,
        "pod",
        memory__max="1000000",
        memory__current="600000",
        memory__stat="anon 1\ninactive_file 100000\n",
    )
    assert available_memory_bytes(tmp_path, membership(tmp_path, "0::/pod")) == 500_000


def test_without_a_limit_memory_is_that_of_the_machine(tmp_path):
    a_group(tmp_path, "pod", memory__max="max", memory__current="600000")
    assert available_memory_bytes(tmp_path, membership(tmp_path, "0::/pod")) > 10_000_000
