"""Pods that are starting: their phase label, and what to ask about them."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from modelserver_operator.plan.looks import (
    condition,
    container_status,
    is_going,
    is_true,
    parse_time,
    revision_label,
)
from modelserver_operator.plan.values import Manifest, Observed, PodLabel
from modelserver_operator.resources import labels
from modelserver_operator.resources.containers import SERVER, does_fetch

# A kubelet needs a second or two for the volumes and the network of a pod.
MOUNT_PATIENCE = timedelta(seconds=5)
# A list of Events is dear, so what lasts is asked about less often.
MOUNT_PATIENCE_MOST = timedelta(minutes=1)

_OVER = {"Succeeded", "Failed"}


def phase_labels(observed: Observed) -> Iterator[PodLabel]:
    """What to set so that each pod's policy fits what it does; both ways, from what is seen.

    A pod whose sandbox was made anew fetches again, so it may need the hub again.
    """
    for pod in _model_pods(observed.pods):
        wanted = labels.SERVING if has_fetched(pod) else labels.FETCHING
        if pod["metadata"]["labels"].get(labels.PHASE) != wanted:
            yield PodLabel(
                pod=pod["metadata"]["name"],
                uid=pod["metadata"]["uid"],
                label=labels.PHASE,
                value=wanted,
            )


def _model_pods(pods: Iterable[Manifest]) -> Iterator[Manifest]:
    for pod in pods:
        is_over = pod.get("status", {}).get("phase") in _OVER
        if revision_label(pod) and not is_over and not is_going(pod):
            yield pod


def has_fetched(pod: Manifest) -> bool:
    """Whether nothing in the pod needs to reach the hub (any more)."""
    names = _fetching(pod)
    return not names or is_true(pod, "Initialized") or all(_is_done(pod, one) for one in names)


def _fetching(pod: Manifest) -> list[str]:
    """The containers that bring models."""
    names = (str(one["name"]) for one in pod["spec"].get("initContainers", []))
    return [name for name in names if does_fetch(name)]


def _is_done(pod: Manifest, container: str) -> bool:
    ended = container_status(pod, container).get("state", {}).get("terminated") or {}
    return bool(ended.get("exitCode") == 0)


def starting_pods(observed: Observed, revisions: Iterable[str]) -> list[Manifest]:
    """Pods that can be asked for their progress: they run, have an address and are not ready."""
    wanted = set(revisions)
    return [
        pod
        for pod in _model_pods(observed.pods)
        if revision_label(pod) in wanted
        and pod.get("status", {}).get("podIP")
        and not is_true(pod, "Ready")
        and any(_runs(container_status(pod, name)) for name in (*_fetching(pod), SERVER))
    ]


def _runs(status: Any) -> bool:
    return "running" in status.get("state", {})


def mounting_pods(observed: Observed, revisions: Iterable[str]) -> list[Manifest]:
    """Pods that have a node and wait for their volumes, or for their network, the oldest first."""
    wanted = set(revisions)
    waiting = [
        pod
        for pod in _model_pods(observed.pods)
        if revision_label(pod) in wanted
        and is_true(pod, "PodScheduled")
        and condition(pod, "PodReadyToStartContainers").get("status") == "False"
    ]
    return sorted(waiting, key=lambda pod: (_scheduled_at(pod), pod["metadata"]["name"]))


def unmounted_pods(mounting: Iterable[Manifest], now: datetime) -> tuple[str, ...]:
    """Of each revision the one that has waited longest, if too long; its pods are all alike."""
    oldest: dict[str, str] = {}
    for pod in mounting:
        if now - parse_time(_scheduled_at(pod)) >= MOUNT_PATIENCE:
            oldest.setdefault(revision_label(pod), pod["metadata"]["name"])
    return tuple(oldest.values())


def mounting_delay_seconds(mounting: Iterable[Manifest], now: datetime) -> float | None:
    """When to ask again: after half of the time that the oldest pod has waited already."""
    oldest = next(iter(mounting), None)
    if oldest is None:
        return None
    waited = now - parse_time(_scheduled_at(oldest))
    return min(max(waited / 2, MOUNT_PATIENCE), MOUNT_PATIENCE_MOST).total_seconds()


def _scheduled_at(pod: Manifest) -> str:
    return str(condition(pod, "PodScheduled")["lastTransitionTime"])
