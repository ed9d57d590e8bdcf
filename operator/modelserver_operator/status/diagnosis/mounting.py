"""Checks of pods whose volumes cannot be mounted, which the kubelet tells in Events only."""

import re
from datetime import datetime, timedelta

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.plan.values import Manifest
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.diagnosis.references import missing_reference
from modelserver_operator.status.wording import clean

# How the kubelet begins: MountVolume.SetUp failed for volume "api-keys" : secret "x" not found
_VOLUME = re.compile(r'for volume "([^"]+)" ?: ?')
_NOT_FOUND = re.compile(r'^(secret|configmap) "[^"]+" not found', re.IGNORECASE)
_NO_KEY = re.compile(r"references non-existent (secret|config) key: ?(\S+)")
_KINDS = {
    "secret": (Code.SECRET_MISSING, "Secret"),
    "config": (Code.CONFIG_MAP_MISSING, "ConfigMap"),
}


# A disk may take so long to be attached, and a first try often fails.
VOLUME_PATIENCE = timedelta(minutes=1)


def volume_not_mounted(evidence: Evidence) -> Diagnosis | None:
    for pod in evidence.pods:
        note = clean(evidence.mount_failures.get(pods.name_of(pod), ""))
        if note and (found := _diagnosis(evidence, pod, note)) is not None:
            return found
    return None


def _diagnosis(evidence: Evidence, pod: Manifest, note: str) -> Diagnosis | None:
    named = _VOLUME.search(note)
    cause = note[named.end() :] if named else note
    what = f"Volume {named[1]}" if named else "A volume"
    missing = (
        missing_reference(evidence, cause) if _NOT_FOUND.match(cause) else _no_key(what, cause)
    )
    if missing is not None:
        return missing
    return _no_volume(evidence, pod, what, cause) if _has_waited(pod, evidence.now) else None


def _has_waited(pod: Manifest, now: datetime) -> bool:
    since = pods.condition_of(pod, "PodScheduled").get("lastTransitionTime")
    return since is not None and now - datetime.fromisoformat(since) >= VOLUME_PATIENCE


def _no_key(what: str, cause: str) -> Diagnosis | None:
    if lacking := _NO_KEY.search(cause):
        code, kind = _KINDS[lacking[1]]
        return finding(
            code,
            f"The pod cannot start without key {lacking[2]} of a {kind}: {what} asks for it",
            f"Add key {lacking[2]} to the {kind}, or correct the volume in spec.podTemplate.spec;"
            " the pod then starts by itself.",
        )
    return None


def _no_volume(evidence: Evidence, pod: Manifest, what: str, cause: str) -> Diagnosis:
    return finding(
        Code.VOLUME_MISSING,
        f"{what} of the pod cannot be mounted: {cause}",
        f"See how the volume and its claim stand: kubectl describe pod {pods.name_of(pod)} -n"
        f" {evidence.server.namespace}; it is tried again by itself.",
    )
