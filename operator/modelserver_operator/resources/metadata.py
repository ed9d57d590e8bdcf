"""What every child carries: owner, labels, and the hash of what was wanted."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from modelserver_operator.apis.v1alpha1 import API_VERSION, KIND, ModelServer
from modelserver_operator.resources.digest import digest
from modelserver_operator.resources.kinds import Kind
from modelserver_operator.resources.labels import DESIRED_HASH, child_labels

HASH_LENGTH = 16


def make_child(
    server: ModelServer,
    kind: Kind,
    name: str,
    body: Mapping[str, Any],
    *,
    revision: str = "",
    more_labels: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """A manifest ready to be written; `body` is what comes beside `metadata`."""
    metadata = {
        "name": name,
        "namespace": server.namespace,
        "labels": {**child_labels(server.name, revision), **more_labels},
        "ownerReferences": [owner_reference(server)],
    }
    manifest = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
        **body,
    }
    annotations = {DESIRED_HASH: digest(manifest, length=HASH_LENGTH)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def owner_reference(server: ModelServer) -> dict[str, Any]:
    # Not blockOwnerDeletion: it needs a permission on finalizers and nobody waits for the children.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": server.name,
        "uid": server.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
