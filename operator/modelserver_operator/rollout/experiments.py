"""What becomes of experiments: which of them are in the route, and whose pods may go.

    Waiting ─▶ Starting ─▶ Running          the pods are ready; every router has the route
       ▲──────────┴───────────┘             no pod is ready, or something else is in the way

The built-in router is in the way while there are any: first its pods are ready and have the route,
then the Service leads to them (`routed_at`); at the end the Service leads past them, and they go
when every node has learnt it (`settling_since`). A revision to which nothing is sent any more keeps
its pods until every router has said so, and as long again as nodes need.

Like a rollout: the children follow from the stored status only, so a kill between any two writes
repeats the same. Weights are no matter of experiments, and nothing here is one of a rollout.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.experiment_status import (
    ExperimentPhase,
    ExperimentStatus,
    ExperimentTraffic,
    LeavingRevision,
    Track,
)
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.sight import RouterSight, RouteSight
from modelserver_operator.rollout.tracks import (
    TrackCounts,
    TrackReading,
    added,
    as_text,
    reading_of,
    track_growth,
    track_of_revision,
)

# Each count is a write of the status, if there was any request.
COUNT_SECONDS = 30.0
# Until routers have learnt a route that has just been written.
ROUTER_SECONDS = 2.0
# After which pods go though a router has not said that it sends them nothing any more.
LEAVING_PATIENCE_SECONDS = 120.0
_LONGEST_SENTENCE = 400

WAITING, STARTING, RUNNING = ExperimentPhase


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """An experiment of the spec, as it is found. `reason` and `problem` say why it cannot be."""

    name: str
    revision: str  # "" if it is not known
    replicas: int  # that its revision shall have
    ready: int = 0
    reason: str = ""
    problem: str = ""
    missing: str = ""  # what its pods lack, if they are not ready


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentSight:
    """One look at the world, at `now`. `readings` is None if nobody was asked this time."""

    now: datetime
    trials: tuple[Trial, ...]
    stable: str  # what all others are answered by; "" if nothing serves yet
    router: Router
    route: RouteSight
    routers: RouterSight
    readings: tuple[TrackReading, ...] | None = None
    settle_seconds: float = 10.0

    @property
    def is_built_in(self) -> bool:
        return self.router is Router.GATEWAY

    @property
    def are_routers_ready(self) -> bool:
        return 0 < self.routers.wanted <= self.routers.ready


@dataclass(frozen=True, slots=True, kw_only=True)
class NextExperiments:
    entries: tuple[ExperimentStatus, ...] = ()
    traffic: ExperimentTraffic | None = None
    wake_seconds: float | None = None


def next_experiments(status: ModelServerStatus, sight: ExperimentSight) -> NextExperiments:
    if not (sight.trials or status.experiments or status.experiment_traffic):
        return NextExperiments()
    before = _mended(status.experiment_traffic or ExperimentTraffic(), sight.now)
    old = {one.name: one for one in status.experiments}
    led = _led(before, sight)
    entries = tuple(_next(old.get(trial.name), trial, led, sight) for trial in sight.trials)
    counting = _Counting(before=before, stored=old, sight=sight)
    entries, counted = counting.applied(entries)
    traffic = led.model_copy(
        update={
            "counted_at": counted.counted_at,
            "readings": counted.readings,
            "leaving": tuple(_leaving(status, before.leaving, entries, sight)),
        }
    )
    return NextExperiments(
        entries=entries,
        traffic=None if traffic == ExperimentTraffic() else traffic,
        wake_seconds=_wake(entries, traffic, sight),
    )


def _mended(traffic: ExperimentTraffic, now: datetime) -> ExperimentTraffic:
    """A clock that was set back must not make anything wait for a time that is yet to come."""
    times = {
        name: clocks.believed(getattr(traffic, name), now)
        for name in ("routed_at", "settling_since", "counted_at")
    }
    leaving = tuple(
        one.model_copy(
            update={
                "since": clocks.believed(one.since, now),
                "confirmed_at": clocks.believed(one.confirmed_at, now),
            }
        )
        for one in traffic.leaving
    )
    return traffic.model_copy(update={**times, "leaving": leaving})


# -- the built-in router ---------------------------------------------------------------------------


def _led(before: ExperimentTraffic, sight: ExperimentSight) -> ExperimentTraffic:
    now = clocks.timestamp(sight.now)
    if sight.trials and sight.is_built_in:
        return _led_to_router(before, sight, now)
    if before.routed_at is not None:
        return before.model_copy(update={"routed_at": None, "settling_since": now})
    settled = clocks.seconds_since(before.settling_since, sight.now) >= sight.settle_seconds
    return before.model_copy(update={"settling_since": None}) if settled else before


def _led_to_router(
    before: ExperimentTraffic, sight: ExperimentSight, now: str
) -> ExperimentTraffic:
    """Without one ready pod of the router the Service leads past it, and back later."""
    if before.routed_at is not None:
        is_dead = sight.routers.ready == 0
        return before.model_copy(update={"routed_at": None}) if is_dead else before
    if sight.are_routers_ready and sight.route.is_confirmed and sight.stable:
        return before.model_copy(update={"routed_at": now, "settling_since": None})
    return before


# -- each experiment -------------------------------------------------------------------------------


def _next(
    stored: ExperimentStatus | None, trial: Trial, led: ExperimentTraffic, sight: ExperimentSight
) -> ExperimentStatus:
    is_same = stored is not None and stored.revision == trial.revision
    before = stored if is_same else None
    entry = ExperimentStatus(
        name=trial.name,
        revision=trial.revision,
        phase=WAITING,
        since=before.since if before else None,
        replicas=trial.replicas,
        ready_replicas=trial.ready,
        answered=before.answered if before else Track(),
        stable=before.stable if before else Track(),
    )
    reason, message = _why_it_waits(before, trial, led, sight)
    if reason:
        return entry.model_copy(update={"reason": reason, "message": _bounded(message)})
    phase = _routed_phase(before, sight)
    reason, message = _what_to_know(phase, trial, sight)
    since = entry.since or (clocks.timestamp(sight.now) if phase is RUNNING else None)
    return entry.model_copy(
        update={"phase": phase, "since": since, "reason": reason, "message": _bounded(message)}
    )


def _bounded(sentence: str) -> str:
    return sentence[:_LONGEST_SENTENCE]


def _why_it_waits(
    before: ExperimentStatus | None,
    trial: Trial,
    led: ExperimentTraffic,
    sight: ExperimentSight,
) -> tuple[str, str]:
    if trial.problem:
        return trial.reason, trial.problem
    if not sight.stable:
        return "NothingServes", "it begins when a revision serves all other requests"
    is_routed = before is not None and before.is_routed
    if trial.ready < (1 if is_routed else max(trial.replicas, 1)):
        found = f"{trial.ready} of {trial.replicas} pods of revision {trial.revision} are ready"
        return "PodsNotReady", f"{found}; {trial.missing}" if trial.missing else found
    if sight.is_built_in and led.routed_at is None:
        routers = sight.routers
        found = f"{routers.ready} of {routers.wanted} pods of the router are ready"
        return "RouterNotReady", sight.route.refusal or f"{found}, and all must have the route"
    return "", ""


def _routed_phase(before: ExperimentStatus | None, sight: ExperimentSight) -> ExperimentPhase:
    """It is in the route as soon as that is stored; the look after that can confirm it."""
    if before is None or not before.is_routed:
        return STARTING
    is_confirmed = sight.route.is_confirmed and not sight.route.refusal
    return RUNNING if before.phase is RUNNING or is_confirmed else STARTING


def _what_to_know(phase: ExperimentPhase, trial: Trial, sight: ExperimentSight) -> tuple[str, str]:
    if phase is STARTING:
        waited = "not every router has said yet that it sends requests to it"
        return "RouteNotConfirmed", sight.route.refusal or waited
    if trial.revision == sight.stable:
        return "IsStable", (
            f"revision {trial.revision} is the one that serves: it is compared with itself; remove"
            " the experiment, or name another revision"
        )
    return "", ""


# -- pods that may go ------------------------------------------------------------------------------


def _leaving(
    status: ModelServerStatus,
    stored: Iterable[LeavingRevision],
    entries: Iterable[ExperimentStatus],
    sight: ExperimentSight,
) -> Iterable[LeavingRevision]:
    """Those that were sent requests and are not any more, until all routers and nodes know it."""
    wanted = {trial.revision for trial in sight.trials if not trial.problem}
    known = {one.revision: one for one in stored if one.revision not in wanted}
    routed = {one.revision for one in entries if one.is_routed}
    for entry in status.experiments:
        if entry.is_routed and entry.revision not in routed | wanted:
            new = LeavingRevision(revision=entry.revision, since=clocks.timestamp(sight.now))
            known.setdefault(entry.revision, new)
    before = {one.revision for one in stored}
    for revision, one in sorted(known.items()):
        later = _confirmed(one, sight) if revision in before else one
        if not _may_go(later, sight):
            yield later


def _confirmed(one: LeavingRevision, sight: ExperimentSight) -> LeavingRevision:
    """Where no router is left there is nobody to send anything."""
    nobody = sight.is_built_in and sight.routers.ready == 0
    if one.confirmed_at is not None or not (sight.route.is_confirmed or nobody):
        return one
    return one.model_copy(update={"confirmed_at": clocks.timestamp(sight.now)})


def _may_go(one: LeavingRevision, sight: ExperimentSight) -> bool:
    settled = clocks.seconds_since(one.confirmed_at, sight.now) >= sight.settle_seconds
    is_confirmed = one.confirmed_at is not None and settled
    return is_confirmed or clocks.seconds_since(one.since, sight.now) >= LEAVING_PATIENCE_SECONDS


# -- counting --------------------------------------------------------------------------------------


def is_count_wanted(status: ModelServerStatus, now: datetime) -> bool:
    """Also of one that starts: from there on it is counted, and not from before."""
    if any(one.phase is STARTING for one in status.experiments):
        return True
    traffic = status.experiment_traffic
    is_running = any(one.phase is RUNNING for one in status.experiments)
    if not is_running or traffic is None or traffic.counted_at is None:
        return is_running
    return clocks.seconds_since(traffic.counted_at, now) >= COUNT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    before: ExperimentTraffic
    stored: Mapping[str, ExperimentStatus]
    sight: ExperimentSight

    def applied(
        self, entries: tuple[ExperimentStatus, ...]
    ) -> tuple[tuple[ExperimentStatus, ...], ExperimentTraffic]:
        """What is new goes to those that ran all the time since the last count."""
        if not entries:
            return (), ExperimentTraffic()
        tracks = {track_of_revision(self.sight.stable), *(one.name for one in entries)}
        base = [one for one in map(reading_of, self.before.readings) if one.track in tracks]
        readings = self.sight.readings
        if readings is None:
            return entries, self._stored(base, self.before.counted_at)
        now = [one for one in readings if one.track in tracks]
        growth = track_growth(base, now, since=_moment(self.before.counted_at))
        is_new = any(one.requests for one in growth.counts.values())
        if not is_new and {one.key for one in growth.base} == {one.key for one in base}:
            return entries, self._stored(base, self.before.counted_at)
        entries = tuple(self._counted(one, growth.counts) for one in entries)
        return entries, self._stored(growth.base, clocks.timestamp(self.sight.now))

    def _counted(self, entry: ExperimentStatus, new: Mapping[str, TrackCounts]) -> ExperimentStatus:
        stored = self.stored.get(entry.name)
        is_same = stored is not None and stored.revision == entry.revision
        if stored is None or not is_same or stored.phase is not RUNNING:
            return entry
        own = new.get(entry.name, TrackCounts())
        stable = new.get(track_of_revision(self.sight.stable), TrackCounts())
        return entry.model_copy(
            update={"answered": added(entry.answered, own), "stable": added(entry.stable, stable)}
        )

    @staticmethod
    def _stored(base: Iterable[TrackReading], at: str | None) -> ExperimentTraffic:
        return ExperimentTraffic(counted_at=at, readings=tuple(map(as_text, base)))


def _moment(text: str | None) -> datetime | None:
    return clocks.parse(text) if text else None


# -- when to look again ----------------------------------------------------------------------------


def _wake(
    entries: Iterable[ExperimentStatus], traffic: ExperimentTraffic, sight: ExperimentSight
) -> float | None:
    """Nobody tells us of a router that has learnt something, or that nodes have had their time."""
    entries = tuple(entries)
    is_learning = (
        any(one.phase is STARTING or one.reason == "RouterNotReady" for one in entries)
        or bool(traffic.leaving)
        or traffic.settling_since is not None
        or (bool(entries) and sight.is_built_in and traffic.routed_at is None)
    )
    if is_learning:
        return ROUTER_SECONDS
    return COUNT_SECONDS if any(one.phase is RUNNING for one in entries) else None
