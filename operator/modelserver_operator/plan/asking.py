"""Who is asked about a rollout that is going on."""

from collections.abc import Iterator

from modelserver_operator.apis.rollout import MetricSource
from modelserver_operator.apis.rollout_status import MOST_SOURCES, Rollout
from modelserver_operator.apis.traffic import Router
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.plan.answers import NO_QUESTIONS, Questions
from modelserver_operator.plan.looks import is_going, is_true, revision_label
from modelserver_operator.plan.routing import is_router
from modelserver_operator.plan.values import Manifest, Observed
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.rollout.frozen import analysis_of, rules_of
from modelserver_operator.rollout.sight import Wish


def questions_of(server: ModelServer, wish: Wish, observed: Observed) -> Questions:
    """None while no run is going on that is decided by evidence."""
    run = server.status.rollout
    if run is None or not is_going_on(run):
        return NO_QUESTIONS
    routers = tuple(sorted(one["metadata"]["name"] for one in ready_routers(observed)))
    asks_models = run.edges is None or counts_at_pods(run, wish)
    return Questions(routers=routers, models=tuple(_models(run, observed)) if asks_models else ())


def counts_at_pods(run: Rollout, wish: Wish) -> bool:
    """Whether requests are counted by the models' own pods, and not by the built-in router."""
    source = analysis_of(rules_of(run)).source
    return source is MetricSource.PODS or wish.router is not Router.GATEWAY


def ready_routers(observed: Observed) -> list[Manifest]:
    return [pod for pod in observed.pods if is_router(pod) and _can_be_asked(pod)]


def _models(run: Rollout, observed: Observed) -> Iterator[str]:
    """As many of each revision as are counted, always the same ones."""
    for revision in filter(None, (run.from_, run.to)):
        pods = [pod for pod in observed.pods if revision_label(pod) == revision]
        names = sorted(pod["metadata"]["name"] for pod in pods if _can_be_asked(pod))
        yield from names[:MOST_SOURCES]


def _can_be_asked(pod: Manifest) -> bool:
    has_address = bool(pod.get("status", {}).get("podIP"))
    return has_address and is_true(pod, "Ready") and not is_going(pod)
