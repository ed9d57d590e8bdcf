"""`modelserver plan`: what a file would change, before it does."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from pydantic.alias_generators import to_camel
from rich.text import Text

from modelserver_cli.cluster import Cluster, Refused
from modelserver_cli.display.plan_view import plan_lines
from modelserver_cli.errors import CommandFailed
from modelserver_cli.reading.documents import applier_of, as_replacement, model_servers
from modelserver_cli.reading.forecast import Forecast, World, forecast
from modelserver_cli.reading.settings import operator_config
from modelserver_cli.shell import Shell
from modelserver_operator.plan.values import ChildKey, Observed
from modelserver_operator.resources.kinds import (
    CHILD_KINDS,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    MODEL_SERVER,
    OPTIONAL_KINDS,
    POD,
)
from modelserver_operator.resources.labels import SERVER
from modelserver_operator.resources.router_choice import Capabilities

type Manifest = dict[str, Any]

CHANGES = 2  # exit code; 1 is for what went wrong
_OPERATOR_LABEL = "app.kubernetes.io/name=modelserver-operator"
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}


def show_plan(
    cluster: Cluster, shell: Shell, file: str, *, operator_namespace: str, as_json: bool
) -> int:
    servers, others = model_servers(shell.read(file), file)
    cluster.require_definition()
    planned = [
        _Planned(cluster, shell, server, operator_namespace).forecast() for server in servers
    ]
    if as_json:
        shell.say_json(json.dumps({"servers": [_as_json(one) for one in planned]}, indent=2))
    else:
        shell.say(_lines(planned, others))
    return _exit_code(planned)


class _Refusal(CommandFailed):
    """The API server would not take it; `name` is of the ModelServer."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"The API server refuses {name}: {message}")
        self.name = name


type Outcome = Forecast | _Refusal


def _exit_code(planned: list[Outcome]) -> int:
    if any(isinstance(one, _Refusal) for one in planned):
        return 1
    has_changes = any(isinstance(one, Forecast) and one.has_changes for one in planned)
    return CHANGES if has_changes else 0


def _lines(planned: list[Outcome], others: list[str]) -> Iterator[Text]:
    for one in planned:
        if isinstance(one, Forecast):
            yield from plan_lines(one)
        else:
            yield Text(one.message, style="red")
    if others:
        yield Text(f"not looked at: {', '.join(others)}", style="dim")


def _as_json(one: Outcome) -> dict[str, Any]:
    if isinstance(one, _Refusal):
        return {"name": one.name, "accepted": False, "message": one.message}
    known = {to_camel(key): value for key, value in asdict(one).items()}
    return {**known, "accepted": True, "hasChanges": one.has_changes}


class _Planned:
    """One ModelServer of the file, against the cluster."""

    def __init__(
        self, cluster: Cluster, shell: Shell, server: Manifest, operator_namespace: str
    ) -> None:
        metadata = server["metadata"]
        self._name = str(metadata["name"])
        self._cluster = cluster.inside(metadata.get("namespace") or cluster.namespace)
        self._server = {
            **server,
            "metadata": {**metadata, "namespace": self._cluster.namespace},
        }
        self._shell = shell
        self._operator_namespace = operator_namespace

    def forecast(self) -> Outcome:
        live = self._cluster.get(MODEL_SERVER, self._name)
        try:
            wanted = self._tried(live)
        except Refused as refused:
            if refused.status not in _REFUSED:
                raise
            return _Refusal(self._name, refused.message)
        return forecast(live, wanted, self._world(live, wanted))

    def _tried(self, live: Manifest | None) -> Manifest:
        if live is None:
            return self._cluster.try_create(self._server)
        if manager := applier_of(live):
            return self._cluster.try_apply(self._server, manager)
        return self._cluster.try_replace(as_replacement(self._server, live))

    def _world(self, live: Manifest | None, wanted: Manifest) -> World:
        observed = self._observed(live)
        records = [
            child
            for key, child in observed.children.items()
            if key.kind == CONTROLLER_REVISION.kind
        ]
        config, note = operator_config(self._operators(), records)
        return World(
            observed=observed,
            config=config,
            now=self._shell.now(),
            golden_set=self._has_golden_set(wanted),
            notes=(note,) if note else (),
        )

    def _operators(self) -> list[Manifest]:
        """None where the user may not look into the operator's namespace."""
        try:
            return self._cluster.items(
                DEPLOYMENT, selector=_OPERATOR_LABEL, namespace=self._operator_namespace
            )
        except Refused as refused:
            if refused.status != HTTPStatus.FORBIDDEN:
                raise
            return []

    def _observed(self, live: Manifest | None) -> Observed:
        uid = live["metadata"]["uid"] if live else ""
        optional = frozenset(kind for kind in OPTIONAL_KINDS if self._cluster.has(kind))
        children: dict[ChildKey, Manifest] = {}
        strangers: dict[ChildKey, Manifest] = {}
        selector = f"{SERVER}={self._name}"
        for kind in (*CHILD_KINDS, *(one for one in OPTIONAL_KINDS if one in optional)):
            for found in self._cluster.items(kind, selector=selector):
                key = ChildKey(kind.kind, found["metadata"]["name"])
                (children if uid and _is_owned(found, uid) else strangers)[key] = found
        return Observed(
            children=children,
            strangers={**strangers, **self._namesakes(children)},
            pods=tuple(self._cluster.items(POD, selector=selector)),
            progress={},
            capabilities=Capabilities(kinds=optional),
        )

    def _namesakes(self, children: dict[ChildKey, Manifest]) -> dict[ChildKey, Manifest]:
        """Objects of others with the server's own name, which carry no label of ours."""
        return {
            key: found
            for kind in CHILD_KINDS
            if (key := ChildKey(kind.kind, self._name)) not in children
            and (found := self._cluster.get(kind, self._name)) is not None
        }

    def _has_golden_set(self, wanted: Manifest) -> bool | None:
        preflight = ((wanted.get("spec") or {}).get("rollout") or {}).get("preflight")
        if not preflight:
            return None
        cases = preflight["goldenSet"]["configMapRef"]
        found = self._cluster.get(CONFIG_MAP, cases["name"])
        return found is not None and cases["key"] in (found.get("data") or {})


def _is_owned(manifest: Manifest, uid: str) -> bool:
    owners = manifest["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == uid and one.get("controller") for one in owners)
