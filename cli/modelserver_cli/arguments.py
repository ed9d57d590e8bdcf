"""The command line's own language: its commands, flags, and examples."""

import argparse
from typing import Any, NoReturn

from modelserver_cli.errors import CommandFailed

_DESCRIPTION = """\
Shows and leads the rollouts of ModelServers. Installed as `kubectl modelserver`, too.

  modelserver status chat --watch        what happens, as it happens
  modelserver plan -f chat.yaml          what a file would change, before it does
  modelserver promote chat               on to the next step
  modelserver abort chat                 back to what served before
  modelserver rollback chat --to 5d9f7c1a
"""
_EXAMPLES = {
    "status": "modelserver status chat\n  modelserver status chat --watch\n"
    "  modelserver status chat -o json | jq .run.phase",
    "plan": "modelserver plan -f chat.yaml\n  kustomize build . | modelserver plan -f -\n\n"
    "The exit code is 0 if nothing changes, 2 if something does, 1 if something is wrong.",
    "promote": "modelserver promote chat          end this step now\n"
    "  modelserver promote chat --full   take over at once, without further comparison",
    "abort": "modelserver abort chat",
    "pause": "modelserver pause chat",
    "resume": "modelserver resume chat",
    "retry": "modelserver retry chat",
    "history": "modelserver history chat",
    "rollback": "modelserver rollback chat                to the revision before this one\n"
    "  modelserver rollback chat --to 5d9f7c1a",
}
_TEXTS = {
    "status": "show a server's revisions, and the rollout with its evidence",
    "plan": "say what a file would change: objects, pods, rollout, and what is missing",
    "promote": "go on to the next step of the rollout without waiting for evidence",
    "abort": "end the rollout and give all traffic back to the revision that served before",
    "pause": "hold the rollout where it is; a revision that fails is rolled back nevertheless",
    "resume": "let a paused rollout go on",
    "retry": "try a revision again that has failed",
    "history": "list the revisions that are kept",
    "rollback": "go back to a kept revision, until the spec asks for another one",
}
ORDERS = ("promote", "abort", "pause", "resume", "retry", "rollback")
_WITH_OUTPUT = ("status", "plan", "history")


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # A flag that is cut short would change its meaning when a longer one is added.
        options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise CommandFailed(message[0].upper() + message[1:], hint=f"See `{self.prog} --help`.")


def parser(program: str) -> argparse.ArgumentParser:
    made = _Parser(prog=program, description=_DESCRIPTION)
    _add_cluster_flags(made)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _TEXTS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"examples:\n  {_EXAMPLES[name]}",
        )
        _add_cluster_flags(command)
        _add_flags(command, name)
    return made


def _add_cluster_flags(made: argparse.ArgumentParser) -> None:
    """As kubectl calls them; before or after the command."""
    flags = made.add_argument_group("cluster")
    absent = argparse.SUPPRESS
    flags.add_argument("-n", "--namespace", default=absent, help="default: that of the context")
    flags.add_argument("--context", default=absent, help="of the kubeconfig")
    flags.add_argument("--kubeconfig", default=absent, metavar="FILE", help="default: KUBECONFIG")


def _add_flags(command: argparse.ArgumentParser, name: str) -> None:
    if name == "plan":
        command.add_argument("-f", "--filename", required=True, metavar="FILE", help="- for stdin")
        command.add_argument(
            "--operator-namespace",
            default="modelserver-system",
            help="where the operator's settings are read (default modelserver-system)",
        )
    else:
        command.add_argument("name", metavar="NAME", help="of the ModelServer")
    if name == "status":
        command.add_argument("-w", "--watch", action="store_true", help="until Ctrl-C")
    if name in _WITH_OUTPUT:
        command.add_argument("-o", "--output", choices=("text", "json"), default="text")
    if name in ORDERS:
        _add_order_flags(command, name)


def _add_order_flags(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        "--no-wait", dest="wait", action="store_false", help="do not wait for the operator's answer"
    )
    command.add_argument(
        "--timeout", type=float, default=30, help="seconds to wait for it (default 30)"
    )
    if name == "promote":
        command.add_argument("--full", action="store_true", help="pass over all further steps")
    if name == "rollback":
        command.add_argument("--to", default="", metavar="REVISION", help="see `history`")
