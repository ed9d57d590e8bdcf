"""The order of the checks: the first that finds something is the diagnosis."""

from collections.abc import Callable

from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.status.diagnosis.ending import deadline_exceeded, ended, evicted
from modelserver_operator.status.diagnosis.evidence import Evidence, gather
from modelserver_operator.status.diagnosis.mounting import volume_not_mounted
from modelserver_operator.status.diagnosis.objects import (
    name_conflict,
    refused_model,
    refused_pods,
    refused_write,
    stuck_job,
)
from modelserver_operator.status.diagnosis.placement import (
    insufficient_resource,
    rejected_by_node,
    unschedulable,
    volume_missing,
)
from modelserver_operator.status.diagnosis.waiting import configuration_missing, image_pull
from modelserver_operator.status.situation import Situation

type Check = Callable[[Evidence], Diagnosis | None]

# Along a pod's life: its objects, its creation, its node, its volumes, its images, what its
# containers did.
CHECKS: tuple[Check, ...] = (
    name_conflict,
    refused_model,
    refused_write,
    refused_pods,
    insufficient_resource,
    volume_missing,
    unschedulable,
    rejected_by_node,
    volume_not_mounted,
    image_pull,
    configuration_missing,
    evicted,
    ended,
    stuck_job,
    deadline_exceeded,
)


def diagnosis_of(situation: Situation) -> Diagnosis | None:
    """None for a server with which nothing is wrong, also while it starts."""
    evidence = gather(situation)
    return next((found for check in CHECKS if (found := check(evidence)) is not None), None)
