"""What this process may use: processors and memory, as the control group limits them."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUP = Path("/proc/self/cgroup")


def usable_threads(root: Path = CGROUP_ROOT, own: Path = _OWN_CGROUP) -> int:
    """Whole processors: with more threads, the kernel would stop them all again and again."""
    processors = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _folders(root, own) if (quota := _cpu_quota(folder)) is not None]
    return max(1, int(min([processors, *quotas])))


def available_memory_bytes(root: Path = CGROUP_ROOT, own: Path = _OWN_CGROUP) -> int:
    free = [left for folder in _folders(root, own) if (left := _memory_left(folder)) is not None]
    return max(0, min([_machine_memory(), *free]))


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """The control groups of this process from its own to the root, of version 2 and version 1."""
    lines = own.read_text().splitlines() if own.is_file() else []
    for line in lines or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        mount = root / controllers if controllers else root
        relative = PurePosixPath(path.lstrip("/"))
        for part in (relative, *relative.parents):
            yield mount / part
    # In a container the path may be that of the host; the root then is the container's own.
    yield from (root, root / "cpu", root / "memory")


def _cpu_quota(folder: Path) -> float | None:
    if (text := _text(folder / "cpu.max")) and not text.startswith("max"):
        quota, period = text.split()
        return int(quota) / int(period)
    quota_text = _text(folder / "cpu.cfs_quota_us")
    period_text = _text(folder / "cpu.cfs_period_us")
    if quota_text and period_text and int(quota_text) > 0:
        return int(quota_text) / int(period_text)
    return None


def _memory_left(folder: Path) -> int | None:
    pairs = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for limit_name, usage_name in pairs:
        limit, usage = _text(folder / limit_name), _text(folder / usage_name)
        if limit and usage and limit != "max":
            return int(limit) - int(usage) + _reclaimable(folder)
    return None


def _reclaimable(folder: Path) -> int:
    """Page cache counts as used, but gives way."""
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"}:
            return int(value)
    return 0


def _machine_memory() -> int:
    for line in _MEMINFO.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
