"""What the operator's Prometheus is asked about a rollout, where it is to count the requests."""

from datetime import datetime

from modelserver_operator.apis.rollout import MetricSource
from modelserver_operator.apis.rollout_status import Rollout
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.answers import SeriesQuestion
from modelserver_operator.plan.asking import MEASURED, models_of
from modelserver_operator.plan.looks import revision_label
from modelserver_operator.plan.values import Observed
from modelserver_operator.resources.names import revision_child
from modelserver_operator.rollout.clocks import is_count_due
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.evidence import is_counting
from modelserver_operator.rollout.frozen import analysis_of, rules_of


def series_of(server: ModelServer, observed: Observed, now: datetime) -> SeriesQuestion | None:
    """None while it is not time, or somebody else counts."""
    run = server.status.rollout
    if run is None or not is_going_on(run) or not is_counting(run):
        return None
    source = analysis_of(rules_of(run)).source
    if source not in MEASURED or not is_count_due(run, rules_of(run), now):
        return None
    is_istio = source is MetricSource.ISTIO
    named = _workloads(server, run) if is_istio else _pods(run, observed)
    return SeriesQuestion(source=source, namespace=server.namespace, revisions=named)


def _workloads(server: ModelServer, run: Rollout) -> dict[str, str]:
    """Istio calls a pod's workload as its Deployment is called."""
    return {revision_child(server.name, one): one for one in (run.from_, run.to) if one}


def _pods(run: Rollout, observed: Observed) -> dict[str, str]:
    """Those that would be asked themselves otherwise."""
    asked = set(models_of((run.from_, run.to), observed))
    pods = (pod for pod in observed.pods if pod["metadata"]["name"] in asked)
    return {pod["metadata"]["name"]: revision_label(pod) for pod in pods}
