"""The command line: modelserver-runtime serve, fetch, resolve, preflight, keys and others.

Each command imports what it needs when it is chosen: together they would take seconds.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from modelserver_runtime.app.keys_flags import add_keys_command
from modelserver_runtime.bench.flags import add_bench_flags
from modelserver_runtime.errors import InvalidConfiguration, RuntimeCrash, StartupFailure
from modelserver_runtime.gateway.command import FIELDS as GATEWAY_FIELDS
from modelserver_runtime.gateway.command import TEXT as GATEWAY_TEXT
from modelserver_runtime.gateway.command import gateway
from modelserver_runtime.logs import install_logging
from modelserver_runtime.preflight.flags import TEXT as PREFLIGHT_TEXT
from modelserver_runtime.preflight.flags import add_preflight_flags
from modelserver_runtime.process.collecting import uncollected
from modelserver_runtime.process.listening import listen
from modelserver_runtime.settings import PREFIX, Settings, load_settings
from modelserver_runtime.settings.concerns import is_secret
from modelserver_runtime.settings.flags import add_flags, settings_given
from modelserver_runtime.settings.gateway import ClusterGatewaySettings
from modelserver_runtime.settings.names import advice, flag_of
from modelserver_runtime.settings.router import RouterSettings
from modelserver_runtime.settings.strangers import unknown_variables

log = logging.getLogger("modelserver_runtime")

_HUB = "hf://"
_TERMINATION_LOG = Path("/dev/termination-log")
# The kubelet reads no more of a termination message.
_LONGEST_MESSAGE_BYTES = 4096
_FAILED_REQUESTS = 1
_KEY_VARIABLE = "OPENAI_API_KEY"
_INTERRUPTED = 130
_DESCRIPTION = """\
Serves one Hugging Face model over HTTP: OpenAI's routes, and /predict for other tasks.

  modelserver-runtime serve --model ./my-model
  modelserver-runtime serve --model hf://Qwen/Qwen3-0.6B --port 8000
"""
_COMMANDS = {
    "serve": "load a model and serve it until SIGTERM or Ctrl-C",
    "gateway": GATEWAY_TEXT,
    "fetch": "bring a model from the hub into a directory",
    "resolve": "say which commit a branch or tag of a model is",
    "discover": "list the tasks that models can be served for, with what they accept",
    "hardware": "list what there is to compute with, and why the rest is not usable",
    "bench": "ask a server many times at once, and say how fast it is",
    "preflight": PREFLIGHT_TEXT,
}
# What needs no settings: its only flag is --output.
_INVENTORIES = frozenset({"discover", "hardware"})
# What asks a server, and has flags of its own.
_CLIENTS = {"bench": add_bench_flags, "preflight": add_preflight_flags}
_EPILOGUE = (
    "Every flag can also be set by the variable behind it, and in the file of --config; a flag "
    "wins over a variable, and a variable over the file."
)


def main() -> NoReturn:
    code = run(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread of torch may still be computing, and the interpreter's own end would wait for it.
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """The exit code: 0, or that of the contract with the operator."""
    try:
        chosen = vars(_parser().parse_args(arguments))
        return _run(chosen.pop("command"), chosen)
    except StartupFailure as failure:
        return _fail(failure)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        log.exception("The command failed")
        message = f"{type(error).__name__}: {error}"
        return _fail(RuntimeCrash(message, hint="The log has the whole trace."))


def _run(command: str, flags: Mapping[str, Any]) -> int:
    if command in _INVENTORIES:
        return _inventory(command, str(flags["output"]))
    if command == "keys":
        return _keys(flags)
    if command == "bench":
        return _bench(flags)
    if command == "preflight":
        return _preflight(flags)
    settings = _settings_of(flags)
    install_logging(settings, sys.stderr)
    for sentence in unknown_variables(os.environ, Settings.model_fields):
        log.warning(sentence)
    _run_with(settings, command, flags)
    return 0


def _run_with(settings: Settings, command: str, flags: Mapping[str, Any]) -> None:
    match command:
        case "serve":
            _serve(settings, is_fetching=str(flags.get("model") or "").startswith(_HUB))
        case "gateway":
            gateway(settings, listen, _say)
        case _:
            _bring(command, settings)


def _inventory(command: str, output: str) -> int:
    from modelserver_runtime.app.inventory import (  # noqa: PLC0415  as said above
        describe_hardware,
        describe_tasks,
    )

    _say(describe_tasks(output) if command == "discover" else describe_hardware(output))
    return 0


def _keys(flags: Mapping[str, Any]) -> int:
    from modelserver_runtime.app.keys_command import run_keys  # noqa: PLC0415  as said above

    _say(run_keys(flags, standard_input=sys.stdin, now=time.time()))
    return 0


def _bench(flags: Mapping[str, Any]) -> int:
    from modelserver_runtime.bench.command import bench  # noqa: PLC0415  as said above

    key = os.environ.get(_KEY_VARIABLE, "")
    is_well = bench(flags, key=key, clock=time.monotonic, say=_say, progress_to=sys.stderr)
    return 0 if is_well else _FAILED_REQUESTS


def _preflight(flags: Mapping[str, Any]) -> int:
    from modelserver_runtime.preflight.command import preflight  # noqa: PLC0415  as said above

    key = os.environ.get(_KEY_VARIABLE, "")
    result = preflight(flags, key=key, clock=time.monotonic, say=_say, progress_to=sys.stderr)
    _terminal_message(result.as_message())
    return 0 if result.has_passed else _FAILED_REQUESTS


def _bring(command: str, settings: Settings) -> None:
    from modelserver_runtime.app.artifact_commands import (  # noqa: PLC0415  as said above
        run_artifact_command,
    )

    summary = run_artifact_command(command, settings, _say)
    _terminal_message(summary)
    print(json.dumps(summary))


def _settings_of(flags: Mapping[str, Any]) -> Settings:
    given = settings_given(flags)
    model = str(given.pop("model", ""))
    settings = load_settings(**_model_settings(model), **given) if model else load_settings(**given)
    if not model.startswith(_HUB) or settings.served_name:
        return settings
    return settings.model_copy(update={"served_name": _repository(model).rpartition("/")[2]})


def _model_settings(model: str) -> dict[str, Any]:
    """A directory, or a model of the hub, which is kept in the user's cache."""
    if not model.startswith(_HUB):
        return {"model_directory": Path(model).expanduser().resolve()}
    repository = _repository(model)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return {
        "model_uri": model,
        "model_directory": cache / "modelserver" / repository.replace("/", "--"),
    }


def _repository(model: str) -> str:
    from modelserver_runtime.artifacts import repository_of  # noqa: PLC0415  as said above

    return repository_of(model)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        # A flag that is cut short would change its meaning when a longer one is added.
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        if message.startswith("unrecognized arguments: --"):
            message = f"{unknown} is no flag; {_meant(unknown)}"
        raise InvalidConfiguration(message, hint=f"See {self.prog} --help.")


def _meant(unknown: str) -> str:
    names = {flag_of(name): name for name in Settings.model_fields}
    if unknown not in names:
        return advice(unknown, ["--model", *names])
    variable = f"{PREFIX}{names[unknown].upper()}"
    if is_secret(Settings.model_fields[names[unknown]]):
        return f"everybody on the machine would see it, so set {variable}"
    return "it is a flag of other commands"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="modelserver-runtime",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        if name in _CLIENTS:
            _CLIENTS[name](commands.add_parser(name, help=text, description=_sentence(text)))
            continue
        if name in _INVENTORIES:
            inventory = commands.add_parser(name, help=text, description=_sentence(text))
            inventory.add_argument("--output", choices=("table", "json"), default="table")
            continue
        command = commands.add_parser(
            name,
            help=text,
            usage=_usage(name),
            description=_sentence(text),
            epilog=_EPILOGUE,
        )
        _add_flags(command, name)
    add_keys_command(commands)
    return parser


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _usage(command: str) -> str:
    what = "(--route FILE | --cluster)" if command == "gateway" else "[--model MODEL]"
    return f"modelserver-runtime {command} {what} [settings]"


def _add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    if command == "gateway":
        add_flags(parser, only=GATEWAY_FIELDS)
        return
    what = "directory, or hf://ORGANISATION/NAME" if command == "serve" else "hf://..."
    parser.add_argument("--model", help=f"{what} (short for --model-uri and --model-directory)")
    add_flags(parser, only=_SERVE_FIELDS if command == "serve" else _ARTIFACT_FIELDS)


# A server knows nothing of routes, nor of the cluster.
_SERVE_FIELDS = (
    frozenset(Settings.model_fields)
    - set(RouterSettings.model_fields)
    - set(ClusterGatewaySettings.model_fields)
)
_ARTIFACT_FIELDS = frozenset(
    {
        *("model_uri", "model_revision", "model_directory", "allow_pickle", "trust_remote_code"),
        *("hub_endpoint", "host", "port", "termination_log", "log_level", "log_format", "config"),
    }
)


def _serve(settings: Settings, *, is_fetching: bool) -> None:
    listening = listen(settings.host, settings.port)
    with uncollected():
        from modelserver_runtime.app.loader import (  # noqa: PLC0415  as said above
            fetch_then_load,
            load,
        )
        from modelserver_runtime.app.server import serve  # noqa: PLC0415  as said above

    serve(settings, listening, fetch_then_load if is_fetching else load, _say)


def _fail(failure: StartupFailure) -> int:
    message = {"code": failure.code, "message": failure.message, "hint": failure.hint}
    _terminal_message(message)
    print(f"error: {failure.code}: {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {failure.hint}", file=sys.stderr)
    return failure.exit_code


def _terminal_message(content: Mapping[str, Any]) -> None:
    """The default file exists in pods only; settings may be unreadable, so they are not asked."""
    wanted = os.environ.get(f"{PREFIX}TERMINATION_LOG")
    if not wanted and not _TERMINATION_LOG.exists():
        return
    path = Path(wanted) if wanted else _TERMINATION_LOG
    text = json.dumps(content)
    if len(text) > _LONGEST_MESSAGE_BYTES:
        shortened = str(content.get("message", ""))[: _LONGEST_MESSAGE_BYTES // 2]
        text = json.dumps({**content, "message": shortened, "hint": ""})
    try:
        path.write_text(text)
    except OSError as error:
        print(f"The last message could not be written to {path}: {error}", file=sys.stderr)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
