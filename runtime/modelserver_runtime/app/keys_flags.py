"""The flags of `modelserver-runtime keys`: read by every command, so they import little."""

import argparse
from typing import Any

from modelserver_runtime.access.principal import Scope

TEXT = "make, list and revoke API keys, or hash one for a Secret"
KEY_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")


def add_keys_command(commands: Any) -> None:
    parser = commands.add_parser("keys", help=TEXT, description=TEXT.capitalize())
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_generate(actions)
    shown = actions.add_parser("list", help="list the keys that were generated")
    shown.add_argument("--output", choices=("table", "json"), default="table")
    revoke = actions.add_parser("revoke", help="revoke a generated key by its id")
    revoke.add_argument("id")
    actions.add_parser("hash", help="read a key from standard input and print its hash")
    for action in (shown, revoke):
        _add_place(action)


def _add_generate(actions: Any) -> None:
    parser: argparse.ArgumentParser = actions.add_parser(
        "generate", help="make a key, print it once, and keep its hash"
    )
    parser.add_argument("--name", required=True, help="whose it is")
    scopes = ", ".join(Scope)
    parser.add_argument("--scopes", default="inference", help=f"of {scopes}; separated by commas")
    parser.add_argument("--models", default="", help="patterns of names, separated by commas")
    parser.add_argument(
        "--namespaces", default="", help="only at the gateway, and there only of these"
    )
    parser.add_argument("--tenant", default="", help="shares turns and answers with others of it")
    parser.add_argument("--expires-in", help="for example 90d, 12h or 30m; default: never")
    parser.add_argument("--highest-priority", default="high", help="low, normal, high or critical")
    for name in KEY_LIMITS:
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    parser.add_argument(
        "--output",
        choices=("text", "json", "secret"),
        default="text",
        help="secret: a manifest whose Secret is mounted by the server; the key is kept only there",
    )
    _add_place(parser)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--access-state-directory", help="the server's, where it has no Redis")
    parser.add_argument("--config", help="the server's settings file")
