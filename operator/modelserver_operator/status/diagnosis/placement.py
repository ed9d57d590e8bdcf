"""Checks of pods that have no node: resources, volumes, rules of placement."""

import re
from collections.abc import Iterator
from typing import Any

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.plan.values import Manifest
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.codes import Code
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.wording import clean

# What follows is about other pods and changes with them.
_PREEMPTION = re.compile(r"( no new claims to deallocate,)? preemption: .*$", re.DOTALL)
_SHORT_OF = re.compile(r"\bInsufficient ([\w./-]*\w)")
_SCHEDULER_FAILED = ("Unschedulable", "SchedulerError")
_TOO_MANY_PODS = "Too many pods"
_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)"')
_VOLUME = re.compile(
    r"persistentvolumeclaim|persistent volume|volume node affinity|volume\(s\)", re.IGNORECASE
)
_REJECTED_BY_NODE = re.compile(r"^OutOf([a-z][\w./-]*)$")


def volume_missing(evidence: Evidence) -> Diagnosis | None:
    for _, message in _unschedulable(evidence):
        if _VOLUME.search(message):
            return _volume_missing(evidence, message)
    return None


def _volume_missing(evidence: Evidence, message: str) -> Diagnosis:
    named = _CLAIM.search(message)
    claim = named[1] if named else _claim_of(evidence)
    subject = f"PersistentVolumeClaim {claim}" if claim else "A volume of the pod"
    hint = (
        f"Create claim {claim} in namespace {evidence.server.namespace}, or correct spec.model.uri"
        f" ({evidence.server.spec.model.uri}); kubectl describe pvc {claim} says how it stands."
        if claim
        else "Check the volumes of spec.podTemplate.spec."
    )
    return finding(Code.VOLUME_MISSING, f"{subject} cannot be used: {message}", hint)


def _claim_of(evidence: Evidence) -> str:
    model = evidence.server.spec.model
    return model.location.partition("/")[0] if model.is_on_claim else ""


def insufficient_resource(evidence: Evidence) -> Diagnosis | None:
    for pod, message in _unschedulable(evidence):
        lacking = list(dict.fromkeys(_SHORT_OF.findall(message)))
        if _TOO_MANY_PODS in message:
            lacking.append("pods")
        if lacking:
            return _insufficient(pod, lacking, message)
    return None


def rejected_by_node(evidence: Evidence) -> Diagnosis | None:
    """The scheduler saw room where the kubelet found none."""
    for pod in evidence.pods:
        status = pods.status_of(pod)
        if match := _REJECTED_BY_NODE.match(str(status.get("reason", ""))):
            return _insufficient(pod, [match[1]], clean(str(status.get("message", ""))))
    return None


def _insufficient(pod: Manifest, lacking: list[str], message: str) -> Diagnosis:
    names = " and ".join(lacking)
    wanted = [f"{name} {amount}" for name in lacking if (amount := _requested(pod, name))]
    asked = f" (a pod requests {', '.join(wanted)})" if wanted else ""
    fields = ", ".join(f"spec.resources.requests of {name}" for name in lacking if name != "pods")
    lower = f"Lower {fields}, add" if fields else "Add"
    return finding(
        Code.INSUFFICIENT_RESOURCE,
        f"No node has enough {names}{asked}: {message}",
        f"{lower} a node, or remove pods that are not needed.",
    )


def _requested(pod: Manifest, resource: str) -> str:
    """What the pod's containers ask for, as written; the server is the first of them."""
    for container in pod.get("spec", {}).get("containers") or ():
        given: dict[str, Any] = container.get("resources") or {}
        for kind in ("requests", "limits"):
            if resource in (given.get(kind) or {}):
                return str(given[kind][resource])
    return ""


def unschedulable(evidence: Evidence) -> Diagnosis | None:
    for _, message in _unschedulable(evidence):
        return finding(
            Code.UNSCHEDULABLE,
            f"No node may run the pod: {message}",
            "Compare nodeSelector, affinity and tolerations in spec.podTemplate.spec with the"
            " labels and taints of the nodes (kubectl describe nodes).",
        )
    return None


def _unschedulable(evidence: Evidence) -> Iterator[tuple[Manifest, str]]:
    """Pods without a node and what the scheduler says about them."""
    for pod in evidence.pods:
        scheduled = pods.condition_of(pod, "PodScheduled")
        if scheduled.get("status") == "False" and scheduled.get("reason") in _SCHEDULER_FAILED:
            yield pod, clean(_PREEMPTION.sub("", str(scheduled.get("message", ""))))
