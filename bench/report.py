"""`python -m bench.report`: writes bench/README.md from the files in bench/results."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
INTRODUCTION = """# Benchmarks

Generated from `bench/results/*.json` by `python -m bench.report`; do not edit. Each benchmark is one command that anybody can run, and measures
the peers in the same run. A figure that is not in such a file is not claimed anywhere.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if bench/README.md is stale")
    arguments = parser.parse_args()
    text = report()
    target = FOLDER / "README.md"
    if arguments.check:
        return 0 if target.read_text() == text else 1
    target.write_text(text)
    return 0


def report() -> str:
    files = sorted((FOLDER / "results").glob("*.json"))
    sections = [section(json.loads(path.read_text())) for path in files]
    return "\n".join([INTRODUCTION, *sections])


def section(result: dict[str, Any]) -> str:
    targets = result.get("targets", {})
    rows = [row(name, value, targets.get(name)) for name, value in result["figures"].items()]
    software = ", ".join(f"{name} {version}" for name, version in result["software"].items())
    lines = [
        f"## {result['bench']}\n",
        f"`{result['command']}` · {result['date']} · commit {result['commit']}\n",
        f"{hardware(result['hardware'])} · {software}\n",
        "| figure | value | target | holds |",
        "|---|---|---|---|",
        *rows,
    ]
    note = result.get("note", "")
    return "\n".join([*lines, f"\n{note}\n" if note else ""])


def row(name: str, value: float, target: dict[str, Any] | None) -> str:
    shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    if not target:
        return f"| `{name}` | {shown} | | |"
    return f"| `{name}` | {shown} | {target['bound']} | {'yes' if target['holds'] else '**no**'} |"


def hardware(described: dict[str, Any]) -> str:
    sets = " ".join(described.get("instruction_sets", []))
    parts = [
        str(described.get("cpu", "")),
        f"{described.get('cores', '?')} cores",
        f"{described.get('memory_gib', '?')} GiB",
        sets,
        str(described.get("gpu", "") or ""),
    ]
    return " · ".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit(main())
