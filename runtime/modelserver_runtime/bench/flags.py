"""The flags of `modelserver-runtime bench`: read by every command, so they import little."""

import argparse


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the server")
    parser.add_argument("--model", default="", help="its model; default: the first it names")
    parser.add_argument("--requests", type=int, default=100, help="how many (default 100)")
    parser.add_argument("--concurrency", type=int, default=8, help="how many at once (default 8)")
    parser.add_argument("--max-tokens", type=int, default=64, help="of an answer (default 64)")
    parser.add_argument("--prompt-words", type=int, default=32, help="of a prompt (default 32)")
    parser.add_argument(
        "--same-prompt", action="store_true", help="ask always the same, so that caches may answer"
    )
    parser.add_argument(
        "--limits",
        choices=("auto", "yes", "no"),
        default="auto",
        help="measure what this machine allows at most, and say how near the server is (auto: if "
        "the server is on this machine)",
    )
    parser.add_argument("--output", choices=("table", "json"), default="table")
