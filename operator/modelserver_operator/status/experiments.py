"""What is seen of the experiments, and what becomes of them."""

from collections.abc import Iterator
from dataclasses import replace

from modelserver_operator.apis.rollout_status import MOST_SOURCES
from modelserver_operator.apis.traffic import Router
from modelserver_operator.plan.answers import Tally
from modelserver_operator.plan.asking import ready_routers
from modelserver_operator.plan.looks import revision_label
from modelserver_operator.plan.values import Manifest, PlannedExperiment
from modelserver_operator.rollout.experiments import (
    ExperimentSight,
    NextExperiments,
    Trial,
    is_count_wanted,
    next_experiments,
)
from modelserver_operator.rollout.sight import Wish
from modelserver_operator.rollout.tracks import (
    TrackCounts,
    TrackReading,
    folded,
    track_of_revision,
)
from modelserver_operator.status import pods
from modelserver_operator.status.counting import SOURCE_LENGTH
from modelserver_operator.status.diagnosis.chain import diagnosis_of
from modelserver_operator.status.sight import route_of, routers_of
from modelserver_operator.status.situation import Situation


def experiments_of(situation: Situation) -> NextExperiments:
    status, plan = situation.server.status, situation.plan
    if plan.wish is None or not (
        plan.experiments or status.experiments or status.experiment_traffic
    ):
        return NextExperiments()
    return next_experiments(status, _sight(situation, plan.wish))


def _sight(situation: Situation, wish: Wish) -> ExperimentSight:
    plan, status = situation.plan, situation.server.status
    readings = None
    if is_count_wanted(status, situation.now):
        readings = tuple(_readings(situation, wish)) or None
    return ExperimentSight(
        now=situation.now,
        trials=tuple(_trial(situation, one) for one in plan.experiments),
        stable=plan.serving_revision if status.serving_revision else "",
        router=wish.router,
        route=route_of(situation, wish),
        routers=routers_of(situation),
        readings=readings,
        settle_seconds=wish.settle_seconds,
    )


def _trial(situation: Situation, one: PlannedExperiment) -> Trial:
    ready = sum(map(pods.is_ready, situation.pods_of(one.revision)))
    return Trial(
        name=one.name,
        revision=one.revision,
        replicas=one.replicas,
        ready=ready,
        reason=one.reason,
        problem=one.problem,
        missing="" if ready >= one.replicas else _missing(situation, one.revision),
    )


def _missing(situation: Situation, revision: str) -> str:
    """What is wrong with the revision's pods, as if it were what the spec asks for."""
    plan = situation.plan
    every = {**plan.replicas, **plan.tried}
    about = replace(plan, wanted_revision=revision, replicas=every)
    found = diagnosis_of(replace(situation, plan=about))
    return found.message if found is not None else ""


# -- readings --------------------------------------------------------------------------------------


def _readings(situation: Situation, wish: Wish) -> Iterator[TrackReading]:
    """The built-in router knows whose request it was; pods know only who has answered."""
    if wish.router is Router.GATEWAY:
        yield from _of_routers(situation)
    else:
        yield from _of_models(situation)


def _of_routers(situation: Situation) -> Iterator[TrackReading]:
    """A track of which a router has seen nothing has the count 0, which is a base as well."""
    heard, stable = situation.observed.heard.routers, situation.plan.serving_revision
    asked = [one for one in ready_routers(situation.observed) if pods.name_of(one) in heard]
    for pod in sorted(asked, key=pods.name_of)[:MOST_SOURCES]:
        answer = heard[pods.name_of(pod)]
        tallies = {one.name: answer.experiments.get(one.name) for one in situation.plan.experiments}
        tallies[track_of_revision(stable)] = answer.tallies.get(stable)
        for track, tally in tallies.items():
            yield TrackReading(
                source=_source(pod),
                track=track,
                counts=_counts(tally or Tally()),
                began=answer.began,
            )


def _of_models(situation: Situation) -> Iterator[TrackReading]:
    """Requests of others to the same revision are in it too."""
    heard = situation.observed.heard.models
    for pod in sorted(situation.workload_pods, key=pods.name_of):
        answer = heard.get(pods.name_of(pod))
        for track in _tracks_of(situation, revision_label(pod)) if answer is not None else ():
            yield TrackReading(
                source=_source(pod),
                track=track,
                counts=_counts(answer.tally if answer is not None else Tally()),
                began=answer.began if answer is not None else None,
            )


def _tracks_of(situation: Situation, revision: str) -> Iterator[str]:
    if revision == situation.plan.serving_revision:
        yield track_of_revision(revision)
    for one in situation.plan.experiments:
        if one.revision == revision:
            yield one.name


def _counts(tally: Tally) -> TrackCounts:
    latency = tally.latency
    is_known = len(latency.buckets) == len(latency.edges_seconds) + 1
    return TrackCounts(
        requests=tally.requests,
        errors=min(tally.errors, tally.requests),
        buckets=folded(latency.edges_seconds, latency.buckets)
        if is_known
        else TrackCounts().buckets,
    )


def _source(pod: Manifest) -> str:
    return str(pod["metadata"]["uid"]).replace("-", "")[:SOURCE_LENGTH]
