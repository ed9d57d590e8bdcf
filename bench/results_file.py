"""Writes a benchmark's result file: its figures together with what they were measured on."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "results"

# What decides how fast a model is computed; the other flags of /proc/cpuinfo do not.
_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
    "i8mm",
    "bf16",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure is held against; `bound` is written as a reader says it: `<= 250`."""

    bound: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run of a benchmark found; figures are named with their units.

    A figure of one of the `peers`, which are compared, ends with its name: `seconds_ours`.
    """

    bench: str
    command: str
    software: Mapping[str, str]
    figures: Mapping[str, float]
    rounds: Sequence[Mapping[str, Any]]
    targets: Mapping[str, Target] = field(default_factory=dict)
    peers: Sequence[str] = ()
    note: str = ""

    def write(self) -> Path:
        """Writes bench/results/NAME.json."""
        targets = {figure: asdict(target) for figure, target in self.targets.items()}
        content = {
            "bench": self.bench,
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit(),
            "hardware": hardware(),
            "command": self.command,
            "software": dict(self.software),
            "figures": dict(self.figures),
            "targets": targets,
            "peers": list(self.peers),
            "note": self.note,
            "rounds": list(self.rounds),
        }
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.bench}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path


def commit() -> str:
    """The commit that was measured; `+changes` if the code differs from it."""
    head = _output("git", "rev-parse", "--short=12", "HEAD")
    if not head:
        return "unknown"
    changes = _output("git", "status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return f"{head}+changes" if changes else head


def hardware() -> dict[str, Any]:
    """The machine: `cores` are those that this process may use."""
    facts = _cpu_facts()
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "gpu": _gpu(),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed versions, Python's first."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in distributions
    }


def _cpu_facts() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n", 1)[0].splitlines() if path.exists() else []
    return {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }


def _gpu() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").replace("\n", ", ")


def _output(*command: str) -> str:
    """What the command prints; empty if it fails or does not exist."""
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
