"""Who is asked what scaling is decided by, and when."""

from collections.abc import Collection, Iterator
from datetime import datetime

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.asking import can_be_asked
from modelserver_operator.plan.looks import revision_label
from modelserver_operator.plan.scaling_values import ScalingQuestion, Sizing
from modelserver_operator.plan.values import Observed
from modelserver_operator.scaling.effects import are_pods_asked

# Rates are taken between two readings: over less time they are chance, and an HPA looks every 15 s.
SHORTEST_SECONDS = 5.0


def scaling_question_of(
    server: ModelServer,
    sizing: Sizing,
    revisions: Collection[str],
    observed: Observed,
    now: datetime,
) -> ScalingQuestion | None:
    """None while nobody is to be asked: of pods that sleep or start nothing is, and of others only
    where their number is the operator's to decide, or whether they may go.
    """  # noqa: D205  one sentence
    scaling, stored = sizing.autoscaling, server.status.scaling
    if scaling is None or stored is None or not _is_due(observed, now):
        return None
    if not are_pods_asked(stored):
        return None
    is_own = stored.engine is ScalingEngine.OPERATOR
    return ScalingQuestion(
        pods=tuple(_pods_of(revisions, observed)),
        queries=scaling.queries if is_own else (),
    )


def _pods_of(revisions: Collection[str], observed: Observed) -> Iterator[str]:
    """All of them: one that is not asked counts as one that does not answer."""
    for pod in observed.pods:
        if revision_label(pod) in revisions and can_be_asked(pod):
            yield pod["metadata"]["name"]


def _is_due(observed: Observed, now: datetime) -> bool:
    last = observed.scaling.last
    return last is None or (now - last.at).total_seconds() >= SHORTEST_SECONDS
