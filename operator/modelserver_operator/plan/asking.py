"""Who is asked about a rollout that is going on, and about experiments."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from modelserver_operator.apis.rollout import MetricSource
from modelserver_operator.apis.rollout_status import MOST_SOURCES, Rollout
from modelserver_operator.apis.traffic import Router
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.answers import Questions
from modelserver_operator.plan.looks import is_going, is_true, revision_label
from modelserver_operator.plan.routing import is_router
from modelserver_operator.plan.values import Manifest, Observed
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.experiments import is_count_wanted
from modelserver_operator.rollout.frozen import analysis_of, rules_of
from modelserver_operator.rollout.sight import Wish

# Whose counts are asked of Prometheus, and not of pods.
MEASURED = frozenset({MetricSource.PROMETHEUS, MetricSource.ISTIO})


def questions_of(server: ModelServer, wish: Wish, observed: Observed, now: datetime) -> Questions:
    """None at rest: while no run is going on that is decided by evidence, and nothing is tried."""
    routers, models = _of_run(server, wish, observed)
    more_routers, more_models = _of_experiments(server, wish, observed, now)
    return Questions(
        routers=tuple(sorted({*routers, *more_routers})),
        models=tuple(dict.fromkeys((*models, *more_models))),
    )


def _of_run(
    server: ModelServer, wish: Wish, observed: Observed
) -> tuple[Iterable[str], Iterable[str]]:
    run = server.status.rollout
    if run is None or not is_going_on(run):
        return (), ()
    source = analysis_of(rules_of(run)).source
    asks_models = counts_at_pods(run, wish) or (run.edges is None and source not in MEASURED)
    revisions = (run.from_, run.to) if asks_models else ()
    return _routers(observed), tuple(models_of(revisions, observed))


def _of_experiments(
    server: ModelServer, wish: Wish, observed: Observed, now: datetime
) -> tuple[Iterable[str], Iterable[str]]:
    """Routers also whether they have the route; who counts is asked when it is time."""
    status, is_built_in = server.status, wish.router is Router.GATEWAY
    is_due = is_count_wanted(status, now)
    if is_built_in:
        return (_routers(observed) if is_due or _is_route_awaited(server) else ()), ()
    running = {one.revision for one in status.experiments if one.is_routed}
    revisions = (status.serving_revision, *sorted(running)) if is_due else ()
    return (), tuple(models_of(revisions, observed))


def _is_route_awaited(server: ModelServer) -> bool:
    """Whether it matters to experiments what the built-in router has been told."""
    traffic = server.status.experiment_traffic
    wants = bool(server.spec.traffic and server.spec.traffic.experiments)
    is_led = traffic is not None and traffic.routed_at is not None
    is_leaving = traffic is not None and bool(traffic.leaving)
    return (wants and not is_led) or is_leaving


def _routers(observed: Observed) -> tuple[str, ...]:
    return tuple(sorted(one["metadata"]["name"] for one in ready_routers(observed)))


def counts_at_pods(run: Rollout, wish: Wish) -> bool:
    """Whether the models' own pods are asked what they have counted, and nobody else."""
    source = analysis_of(rules_of(run)).source
    if source is MetricSource.AUTO:
        return wish.router is not Router.GATEWAY
    return source is MetricSource.PODS


def ready_routers(observed: Observed) -> list[Manifest]:
    return [pod for pod in observed.pods if is_router(pod) and can_be_asked(pod)]


def models_of(revisions: Iterable[str], observed: Observed) -> Iterator[str]:
    """As many of each revision as are counted, always the same ones."""
    for revision in filter(None, revisions):
        pods = [pod for pod in observed.pods if revision_label(pod) == revision]
        names = sorted(pod["metadata"]["name"] for pod in pods if can_be_asked(pod))
        yield from names[:MOST_SOURCES]


def can_be_asked(pod: Manifest) -> bool:
    has_address = bool(pod.get("status", {}).get("podIP"))
    return has_address and is_true(pod, "Ready") and not is_going(pod)
