"""Checks of pods whose volumes cannot be mounted, which the kubelet tells in Events only."""

import re

from modelserver_operator.apis.status import Diagnosis
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


def volume_not_mounted(evidence: Evidence) -> Diagnosis | None:
    for pod in evidence.pods:
        if note := evidence.mount_failures.get(pods.name_of(pod)):
            return _diagnosis(evidence, pods.name_of(pod), clean(note))
    return None


def _diagnosis(evidence: Evidence, pod: str, note: str) -> Diagnosis:
    volume = _VOLUME.search(note)
    cause = note[volume.end() :] if volume else note
    if _NOT_FOUND.match(cause) and (missing := missing_reference(evidence, cause)) is not None:
        return missing
    what = f"Volume {volume[1]}" if volume else "A volume"
    if lacking := _NO_KEY.search(cause):
        code, kind = _KINDS[lacking[1]]
        return finding(
            code,
            f"The pod cannot start without key {lacking[2]} of a {kind}: {what} asks for it",
            f"Add key {lacking[2]} to the {kind}, or correct the volume in spec.podTemplate.spec;"
            " the pod then starts by itself.",
        )
    return finding(
        Code.VOLUME_MISSING,
        f"{what} of the pod cannot be mounted: {cause}",
        f"See how the volume and its claim stand: kubectl describe pod {pod} -n"
        f" {evidence.server.namespace}; it is tried again by itself.",
    )
