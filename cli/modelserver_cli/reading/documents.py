"""ModelServers in a YAML file, and how they would be sent to the API server."""

from collections.abc import Iterator
from typing import Any

import yaml

from modelserver_cli.errors import CommandFailed
from modelserver_operator.resources.kinds import MODEL_SERVER

type Manifest = dict[str, Any]

_OPERATORS = "modelserver-operator"


def model_servers(text: str, source: str) -> tuple[list[Manifest], list[str]]:
    """The ModelServers, and the names of everything else in the file."""
    try:
        documents = [one for one in yaml.safe_load_all(text) if one is not None]
    except yaml.YAMLError as error:
        raise CommandFailed(f"{source} is no YAML: {error}") from error
    objects = [item for one in documents for item in _unlisted(one, source)]
    servers = [one for one in objects if one.get("kind") == MODEL_SERVER.kind]
    if not servers:
        raise CommandFailed(f"There is no ModelServer in {source}")
    for server in servers:
        _require_name(server, source)
    others = [f"{one.get('kind')} {_metadata(one).get('name')}" for one in objects]
    return servers, [one for one in others if not one.startswith(f"{MODEL_SERVER.kind} ")]


def _unlisted(document: Any, source: str) -> Iterator[Manifest]:
    if not isinstance(document, dict):
        raise CommandFailed(
            f"{source} must have Kubernetes objects; found a {type(document).__name__}"
        )
    if document.get("kind") == "List":
        yield from (item for one in document.get("items") or [] for item in _unlisted(one, source))
    else:
        yield document


def _require_name(server: Manifest, source: str) -> None:
    if not _metadata(server).get("name"):
        raise CommandFailed(f"A ModelServer in {source} has no metadata.name; give it one")


def _metadata(manifest: Manifest) -> Manifest:
    metadata = manifest.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def applier_of(live: Manifest) -> str:
    """Who applied it last by server-side apply; "" where nobody did."""
    entries = live["metadata"].get("managedFields") or []
    names = [
        str(one["manager"])
        for one in entries
        if one.get("operation") == "Apply" and not one.get("subresource")
    ]
    return next((name for name in names if not name.startswith(_OPERATORS)), "")


def as_replacement(wanted: Manifest, live: Manifest) -> Manifest:
    """What a client-side `kubectl apply` comes to where the file is all that is wanted.

    Labels and annotations of others stay, and so does a number of replicas that the file leaves
    open and an autoscaler or `kubectl scale` has set.
    """
    metadata, theirs = dict(_metadata(wanted)), live["metadata"]
    for key in ("labels", "annotations"):
        metadata[key] = {**(theirs.get(key) or {}), **(metadata.get(key) or {})}
    for key in ("resourceVersion", "finalizers", "ownerReferences"):
        if key in theirs:
            metadata[key] = theirs[key]
    spec = wanted.get("spec")
    if isinstance(spec, dict) and "replicas" not in spec and _is_scaled(live):
        spec = {**spec, "replicas": live["spec"]["replicas"]}
    return {**wanted, "metadata": metadata, "spec": spec}


def _is_scaled(live: Manifest) -> bool:
    entries = live["metadata"].get("managedFields") or []
    return any(one.get("subresource") == "scale" for one in entries)
