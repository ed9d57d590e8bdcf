"""`modelserver`, and `kubectl modelserver`: exit code 0, 1 with a sentence, 130 after Ctrl-C."""

import os
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from modelserver_cli.arguments import ORDERS, parser
from modelserver_cli.cluster import Cluster
from modelserver_cli.commands.history import show_history
from modelserver_cli.commands.orders import give_order
from modelserver_cli.commands.plan import show_plan
from modelserver_cli.commands.status import show_status
from modelserver_cli.errors import CommandFailed
from modelserver_cli.shell import Shell

_FAILED = 1
_INTERRUPTED = 130
_PLUGIN = "kubectl-modelserver"


def main() -> None:
    name = Path(sys.argv[0]).name
    program = "kubectl modelserver" if name == _PLUGIN else "modelserver"
    sys.exit(run(sys.argv[1:], shell_of(Console()), program=program))


def shell_of(console: Console) -> Shell:
    return Shell(
        console=console,
        now=lambda: datetime.now(UTC),
        pause=_pause,
        token=_token,
        read=_read,
    )


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _token() -> str:
    """The time, for people who read it in the status, and chance, so that it is new."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def _read(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandFailed(f"{file} cannot be read: {why}") from error


def run(arguments: Sequence[str], shell: Shell, *, program: str = "modelserver") -> int:
    try:
        return _run(vars(parser(program).parse_args(arguments)), shell)
    except CommandFailed as failure:
        _complain(failure)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough, as `head` has; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


def _complain(failure: CommandFailed) -> None:
    print(f"error: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {failure.hint}", file=sys.stderr)


def _run(flags: Mapping[str, Any], shell: Shell) -> int:
    places = {key: flags.get(key) for key in ("kubeconfig", "context", "namespace")}
    cluster = Cluster.open(**places)
    try:
        return _command(cluster, shell, flags)
    finally:
        cluster.close()


def _command(cluster: Cluster, shell: Shell, flags: Mapping[str, Any]) -> int:
    command = flags["command"]
    if command in ORDERS:
        give_order(cluster, shell, flags)
        return 0
    as_json = flags["output"] == "json"
    match command:
        case "status":
            show_status(cluster, shell, flags["name"], watch=flags["watch"], as_json=as_json)
        case "history":
            show_history(cluster, shell, flags["name"], as_json=as_json)
        case _:
            return show_plan(
                cluster,
                shell,
                flags["filename"],
                operator_namespace=flags["operator_namespace"],
                as_json=as_json,
            )
    return 0


if __name__ == "__main__":
    main()
