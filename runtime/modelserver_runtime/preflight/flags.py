"""The flags of `modelserver-runtime preflight`: read by every command, so they import little."""

import argparse
from pathlib import Path

TEXT = "ask a server questions whose answers are known, and say how many it answers as expected"


def add_preflight_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the server")
    parser.add_argument("--cases", required=True, type=Path, help="a file with a case on each line")
    parser.add_argument(
        "--min-pass-percent", type=int, default=100, help="of the cases (default 100)"
    )
    parser.add_argument(
        "--timeout", type=float, default=300, help="seconds for all cases (default 300)"
    )
    parser.add_argument("--output", choices=("table", "json"), default="table")
