"""Which revision serves, and which ones keep their pods.

    the spec asks for B           A's pods serve; B's start beside them
    B's pods are all ready        the root Service moves to B
    config.settle_seconds later   A's Deployment, Service and budget go; its pods drain

Nothing is remembered but when the root Service moved: everything else is read from what exists.
"""

from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.looks import (
    child_revision,
    children_of_kind,
    deployment_of,
    is_complete,
    parse_time,
    ready_replicas,
    root_revision,
)
from modelserver_operator.plan.values import Observed
from modelserver_operator.resources.kinds import DEPLOYMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Rolling:
    serving: str  # what the root Service selects; "" if nothing can serve
    live: frozenset[str]  # revisions that keep Deployment, Service and budget
    wait_seconds: float | None = None


def roll(
    server: ModelServer,
    target: str,
    replicas: int,
    observed: Observed,
    now: datetime,
    settle_seconds: float,
) -> Rolling:
    """While the target is not known ("") everything stays as it is.

    `replicas` are the pods with which the target may take over.
    """
    existing = _existing(server, observed)
    root = _root(server, observed, existing)
    if not target:
        return Rolling(serving=root, live=existing)
    serving = _serving(server, observed, root=root, target=target, replicas=replicas)
    needed = frozenset({target, serving})
    if not existing - needed or not _has_served(server, observed, root):
        return Rolling(serving=serving, live=needed)
    wait = settle_seconds - _settled_seconds(server, serving, root, now)
    live = needed | existing if wait > 0 else needed
    return Rolling(serving=serving, live=live, wait_seconds=wait if wait > 0 else None)


def _existing(server: ModelServer, observed: Observed) -> frozenset[str]:
    deployments = children_of_kind(observed, DEPLOYMENT.kind)
    revisions = (child_revision(one, server.name) for one in deployments)
    return frozenset(filter(None, revisions))


def _root(server: ModelServer, observed: Observed, existing: frozenset[str]) -> str:
    """What the root Service selects, or selected before somebody deleted or bent it."""
    root = root_revision(observed, server.name)
    if root in existing:
        return root
    remembered = server.status.serving_revision
    return remembered if remembered in existing else root


def _has_served(server: ModelServer, observed: Observed, root: str) -> bool:
    if not root:
        return False
    is_ready = ready_replicas(deployment_of(observed, server.name, root)) > 0
    return bool(server.status.serving_revision) or is_ready


def _serving(
    server: ModelServer, observed: Observed, *, root: str, target: str, replicas: int
) -> str:
    """Before anything has served, the Service leads to the target, whose first ready pod serves."""
    if root == target or not _has_served(server, observed, root):
        return target
    deployment = deployment_of(observed, server.name, target)
    if replicas == 0 or is_complete(deployment, replicas=replicas):
        return target
    is_down = ready_replicas(deployment_of(observed, server.name, root)) == 0
    return target if is_down and ready_replicas(deployment) > 0 else root


def _settled_seconds(server: ModelServer, serving: str, root: str, now: datetime) -> float:
    """Since when the root Service has been where it shall be; counted when status knows of it.

    Every node must have learnt the Service's new endpoints before the old pods are told to stop:
    the endpoint slice controller and kube-proxy each batch for about a second, busy ones longer.
    """
    status = server.status
    has_moved = serving == root == status.serving_revision
    if not has_moved or status.serving_since is None:
        return 0.0
    return max(0.0, (now - parse_time(status.serving_since)).total_seconds())  # a clock set back
