"""The gateway's own answers about models: lists and states, from one snapshot."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from modelserver_runtime.gateway.cluster import Directory, ServedModel

type IsShown = Callable[[ServedModel], bool]


def openai_models(directory: Directory, is_shown: IsShown) -> dict[str, Any]:
    data = [_openai_model(name, one) for name, one in directory.listed() if is_shown(one)]
    return {"object": "list", "data": data}


def openai_model(directory: Directory, model: ServedModel) -> dict[str, Any]:
    name = next(name for name, one in directory.listed() if one.key == model.key)
    return _openai_model(name, model)


def models(directory: Directory, is_shown: IsShown) -> dict[str, Any]:
    return {"models": [_line(name, one) for name, one in directory.listed() if is_shown(one)]}


def status(model: ServedModel, stage: str) -> dict[str, Any]:
    """`stage` is how far a start has come that is going on."""
    report = _line(model.served_name, model) | {
        "revision": model.revision,
        "aliases": list(model.names[1:]),
        "pods_starting": len(model.starting),
        "stage": stage,
    }
    if model.fetched_percent is not None:
        report["fetched_percent"] = model.fetched_percent
    if model.problem:
        report["problem"] = model.problem
    return report


def health(directory: Directory) -> dict[str, Any]:
    states = [model.state for model in directory.servers.values()]
    counts = {state: states.count(state) for state in sorted(set(states))}
    return {"status": "ready", "models": len(states), "states": counts}


def _line(name: str, model: ServedModel) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": model.key.namespace,
        "server": model.key.name,
        "state": model.state,
        "pods_ready": len(model.ready),
        "may_sleep": model.may_sleep,
    }


def _openai_model(name: str, model: ServedModel) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": _unix(model.created),
        "owned_by": model.key.namespace,
    }


def _unix(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0
