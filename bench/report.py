"""`python -m bench.report`: writes bench/README.md from the files in bench/results."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
INTRODUCTION = """# Benchmarks

Generated from `bench/results/*.json` by `python -m bench.report`; do not edit. Each benchmark is
one command that anybody can run, and measures the peers in the same run. A figure that is not in
such a file is not claimed anywhere.
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
    software = ", ".join(f"{name} {version}" for name, version in result["software"].items())
    peers = result.get("peers", [])
    alone = [name for name in result["figures"] if not split(name, peers)]
    lines = [
        f"## {result['bench']}\n",
        f"`{result['command']}` · {result['date']} · commit {result['commit']}\n",
        f"{hardware(result['hardware'])} · {software}\n",
        *(comparison(result, peers) if peers else []),
        *(table(result, alone) if alone else []),
    ]
    note = result.get("note", "")
    return "\n".join([*lines, f"{note}\n" if note else ""])


def table(result: dict[str, Any], names: list[str]) -> list[str]:
    targets = result.get("targets", {})
    rows = [row(name, result["figures"][name], targets.get(name)) for name in names]
    return ["| figure | value | target | holds |", "|---|---|---|---|", *rows, ""]


def comparison(result: dict[str, Any], peers: list[str]) -> list[str]:
    """Ours beside each peer: one row for the figures whose names differ in the peer only."""
    figures = result["figures"]
    found = [parts for name in figures if (parts := split(name, peers))]
    rows = {figure: "" for figure, _ in found}
    for figure in rows:
        cells = [figures.get(f"{figure}_{peer}") for peer in peers]
        rows[figure] = " | ".join("" if value is None else shown(value) for value in cells)
    return [
        f"| figure | {' | '.join(peer.replace('_', ' ') for peer in peers)} |",
        "|---|" + "---|" * len(peers),
        *(f"| `{figure}_…` | {cells} |" for figure, cells in rows.items()),
        "",
    ]


def split(name: str, peers: list[str]) -> tuple[str, str] | None:
    """`seconds_ours` → `seconds`, `ours`; None for a figure of no peer."""
    return next(
        ((name.removesuffix(f"_{peer}"), peer) for peer in peers if name.endswith(f"_{peer}")), None
    )


def row(name: str, value: float, target: dict[str, Any] | None) -> str:
    if not target:
        return f"| `{name}` | {shown(value)} | | |"
    holds = "yes" if target["holds"] else "**no**"
    return f"| `{name}` | {shown(value)} | {target['bound']} | {holds} |"


def shown(value: float) -> str:
    """Four digits, and never an exponent for a large number."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


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
