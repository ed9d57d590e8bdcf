"""`modelserver history`: the revisions that can be rolled back to."""

import json
from dataclasses import asdict

from pydantic.alias_generators import to_camel

from modelserver_cli.cluster import Cluster
from modelserver_cli.display.history_view import history_lines
from modelserver_cli.reading.history import Entry, history_of
from modelserver_cli.shell import Shell
from modelserver_operator.apis.v1alpha1 import parse_status
from modelserver_operator.resources.kinds import CONTROLLER_REVISION
from modelserver_operator.resources.labels import REVISION, SERVER


def show_history(cluster: Cluster, shell: Shell, name: str, *, as_json: bool) -> None:
    entries = read_history(cluster, name)
    if as_json:
        shell.say_json(json.dumps([_as_json(entry) for entry in entries], indent=2))
    elif entries:
        shell.say(history_lines(entries))
    else:
        shell.say([f"{name} has no revision yet"])


def read_history(cluster: Cluster, name: str) -> tuple[Entry, ...]:
    status = parse_status(cluster.server(name))
    records = cluster.items(CONTROLLER_REVISION, selector=f"{SERVER}={name},{REVISION}")
    return history_of(records, status)


def _as_json(entry: Entry) -> dict[str, object]:
    return {to_camel(key): value for key, value in asdict(entry).items()}
