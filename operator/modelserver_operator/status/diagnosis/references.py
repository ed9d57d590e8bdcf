"""Secrets and ConfigMaps that a pod refers to and that are not there."""

import re
from collections.abc import Iterator

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.apis.v1alpha1 import ModelServerSpec
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding

_SECRET = re.compile(r'[Ss]ecret "?([^\s"]+)"?')
_CONFIG_MAP = re.compile(r'[Cc]onfig[Mm]ap "?([^\s"]+)"?')
_KEY = re.compile(r"couldn't find key (\S+) in")


def missing_reference(evidence: Evidence, cause: str) -> Diagnosis | None:
    """From the kubelet's sentence, if it is about such an object."""
    for pattern, code, kind in (
        (_CONFIG_MAP, Code.CONFIG_MAP_MISSING, "ConfigMap"),
        (_SECRET, Code.SECRET_MISSING, "Secret"),
    ):
        if match := pattern.search(cause):
            return _missing(evidence, code, f"{kind} {match[1].rpartition('/')[2]}", cause)
    return None


def _missing(evidence: Evidence, code: Code, what: str, cause: str) -> Diagnosis:
    key = _KEY.search(cause)
    with_key = f" with key {key[1]}" if key else ""
    return finding(
        code,
        f"The pod cannot start without {what}: {cause}",
        f"Create {what}{with_key} in namespace {evidence.server.namespace}, or correct"
        f" {_field_that_names(evidence, what)}; the pod then starts by itself.",
    )


def _field_that_names(evidence: Evidence, what: str) -> str:
    for field, secret in _secrets_of(evidence.server.spec):
        if what == f"Secret {secret}":
            return field
    return "spec.runtime.env or spec.podTemplate"


def _secrets_of(spec: ModelServerSpec) -> Iterator[tuple[str, str]]:
    """The fields that name a Secret, and which."""
    if spec.model.credentials:
        yield "spec.model.credentials.secretRef", spec.model.credentials.secret_ref.name
    for model in spec.extra_models:
        if model.credentials:
            field = f"spec.extraModels[{model.name}].credentials.secretRef"
            yield field, model.credentials.secret_ref.name
    if spec.access and spec.access.api_keys:
        yield "spec.access.apiKeys.secretRef", spec.access.api_keys.secret_ref.name
    if spec.runtime.redis and spec.runtime.redis.secret_ref:
        yield "spec.runtime.redis.secretRef", spec.runtime.redis.secret_ref.name
