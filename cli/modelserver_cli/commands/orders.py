"""Commands to the operator: promote, abort, pause, resume, retry, rollback."""

from collections.abc import Mapping
from typing import Any

from modelserver_cli.cluster import Cluster
from modelserver_cli.commands.history import read_history
from modelserver_cli.errors import CommandFailed
from modelserver_cli.reading import orders
from modelserver_cli.shell import Shell
from modelserver_operator.apis.rollout_status import CommandResult, LastCommand
from modelserver_operator.apis.v1alpha1 import parse_status
from modelserver_operator.resources.labels import COMMAND

_INTERVAL_SECONDS = 0.5


def give_order(cluster: Cluster, shell: Shell, flags: Mapping[str, Any]) -> None:
    """Sets the annotation, and waits for what the operator says to it."""
    name = flags["name"]
    order = f"{_order(cluster, name, flags)}/{shell.token()}"
    cluster.annotate(name, COMMAND, order)
    if not flags["wait"]:
        shell.say([f"told: {order}"])
        return
    answer = _answer(cluster, shell, name, order, flags["timeout"])
    if answer.result is CommandResult.REFUSED:
        raise CommandFailed(f"The operator refuses {order}: {answer.message}")
    shell.say([f"done: {answer.message}"])


def _order(cluster: Cluster, name: str, flags: Mapping[str, Any]) -> str:
    status = parse_status(cluster.server(name))
    match flags["command"]:
        case "retry":
            return orders.order_to_retry(name, status)
        case "rollback":
            history = read_history(cluster, name)
            return orders.order_to_roll_back(name, status, history, flags["to"])
        case command:
            in_full = flags.get("full", False)
            return orders.order_for_run(name, command, status, in_full=in_full)


def _answer(
    cluster: Cluster, shell: Shell, name: str, order: str, timeout_seconds: float
) -> LastCommand:
    began = shell.now()
    while (shell.now() - began).total_seconds() < timeout_seconds:
        server = cluster.server(name)
        last = parse_status(server).last_command
        if last is not None and last.token == order:
            return last
        if (server["metadata"].get("annotations") or {}).get(COMMAND) != order:
            raise CommandFailed(f"Another command has taken the place of {order}")
        shell.pause(_INTERVAL_SECONDS)
    raise CommandFailed(
        f"The operator has not answered {order} within {timeout_seconds:g} s",
        hint="Does it run? The command stays, and is done as soon as the operator sees it.",
    )
