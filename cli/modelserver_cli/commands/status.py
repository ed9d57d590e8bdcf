"""`modelserver status`: one picture of everything, once or as it changes."""

import json

from rich.console import Group
from rich.live import Live
from rich.text import Text

from modelserver_cli.cluster import Cluster
from modelserver_cli.display.status_view import status_lines
from modelserver_cli.reading.picture import Picture, picture_of
from modelserver_cli.shell import Shell
from modelserver_operator.resources.kinds import CONTROLLER_REVISION, DEPLOYMENT
from modelserver_operator.resources.labels import REVISION, SERVER

# The operator itself looks at a rollout every few seconds.
_INTERVAL_SECONDS = 1.0


def show_status(cluster: Cluster, shell: Shell, name: str, *, watch: bool, as_json: bool) -> None:
    if not watch:
        _say(shell, _picture(cluster, shell, name), as_json=as_json)
    elif as_json or not shell.console.is_terminal:
        _follow(cluster, shell, name, as_json=as_json)
    else:
        _live(cluster, shell, name)


def _picture(cluster: Cluster, shell: Shell, name: str) -> Picture:
    server = cluster.server(name)
    selector = f"{SERVER}={name},{REVISION}"
    records = cluster.items(CONTROLLER_REVISION, selector=selector)
    deployments = cluster.items(DEPLOYMENT, selector=selector)
    return picture_of(server, records, deployments, shell.now())


def _say(shell: Shell, picture: Picture, *, as_json: bool) -> None:
    if as_json:
        shell.say_json(json.dumps(picture.as_json(), indent=2))
    else:
        shell.say(status_lines(picture, ascii_only=shell.is_ascii_only))


def _live(cluster: Cluster, shell: Shell, name: str) -> None:
    with Live(console=shell.console, auto_refresh=False) as live:
        while True:
            picture = _picture(cluster, shell, name)
            lines = status_lines(picture, ascii_only=shell.is_ascii_only)
            live.update(Group(*lines, Text("\nCtrl-C ends this", style="dim")), refresh=True)
            shell.pause(_INTERVAL_SECONDS)


def _follow(cluster: Cluster, shell: Shell, name: str, *, as_json: bool) -> None:
    """For a pipe: the picture again whenever more has changed than the time."""
    last = None
    while True:
        picture = _picture(cluster, shell, name)
        if (timeless := _without_times(picture)) != last:
            if as_json:
                shell.say_json(json.dumps(picture.as_json()))
            else:
                shell.say([*status_lines(picture, ascii_only=shell.is_ascii_only), ""])
            last = timeless
        shell.pause(_INTERVAL_SECONDS)


def _without_times(picture: Picture) -> object:
    known = picture.as_json()
    run = {k: v for k, v in (known["run"] or {}).items() if "econds" not in k and k != "message"}
    return {**known, "run": run}
