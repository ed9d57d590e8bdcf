"""The CustomResourceDefinition, whole."""

from typing import Any

from modelserver_operator.apis.schema import Schema, structural_schema
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.v1alpha1 import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    ModelServer,
    ModelServerSpec,
)

SINGULAR = "modelserver"
SHORT_NAMES = ("msrv",)  # ms, mdl and mr are taken by others
CATEGORIES = ("all", "modelserving")

# Until the operator has looked for the first time; kstatus would take no status for a good one.
NEVER_SEEN = {"observedGeneration": 0}

_READY = ".status.conditions[?(@.type=='Ready')]"


def _column(name: str, kind: str, path: str, description: str, *, wide: bool = False) -> Schema:
    column: Schema = {
        "name": name,
        "type": kind,
        "jsonPath": path,
        "description": description,
    }
    return {**column, "priority": 1} if wide else column


COLUMNS = (
    _column("Ready", "string", f"{_READY}.status", "Whether it serves as the spec asks"),
    _column("Status", "string", f"{_READY}.reason", "Why, in one word"),
    _column("Replicas", "integer", ".status.readyReplicas", "Pods that are ready"),
    _column("Revision", "string", ".status.servingRevision", "The revision that serves"),
    _column("Rollout", "string", ".status.rollout.phase", "How far the change of revision is"),
    _column(
        "Canary%",
        "integer",
        ".status.rollout.weights.intended",
        "How much of the traffic the new revision shall get",
    ),
    _column("URL", "string", ".status.url", "Where clients in the cluster send requests"),
    _column("Age", "date", ".metadata.creationTimestamp", "When it was created"),
    _column("Model", "string", ".spec.model.uri", "The model", wide=True),
    _column("Message", "string", f"{_READY}.message", "Why, in a sentence", wide=True),
)


def custom_resource_definition() -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{PLURAL}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "modelserver"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": list(SHORT_NAMES),
                "categories": list(CATEGORIES),
            },
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema()},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [dict(column) for column in COLUMNS],
    }


def root_schema() -> Schema:
    text: dict[str, Any] = {"type": "string"}
    return {
        "description": "A ModelServer serves one model: the operator makes and keeps everything"
        " that is needed for it.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {**text, "description": f"{GROUP}/{VERSION}"},
            "kind": {**text, "description": KIND},
            "metadata": {"type": "object"},
            "spec": {
                **structural_schema(ModelServerSpec, with_defaults=True),
                "description": "What is wanted.",
            },
            "status": {
                **structural_schema(ModelServerStatus, with_defaults=False),
                "description": "What is seen. Only the operator writes it.",
                "default": dict(NEVER_SEEN),
            },
        },
        "x-kubernetes-validations": [rule.validation for rule in ModelServer.rules],
    }
