"""What a decision about a rollout is made from: what is asked for, and what is seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.rollout_status import Edges, PreflightOutcome
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout.counts import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the ModelServer asks for, as far as a rollout is concerned.

    `target` is the revision of the spec, "" while its model is being resolved. `replicas` is 0
    while the server is suspended. `router` is what `Auto` came to.
    """

    generation: int
    target: str
    replicas: int
    rollout: RolloutSpec
    router: Router = Router.GATEWAY
    command: str = ""  # the annotation modelserver.dev/command, as it is
    known_revisions: frozenset[str] = frozenset()  # in the history: may be rolled back to
    is_being_deleted: bool = False
    settle_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionSight:
    """The pods of one revision. Sentences are empty where there is nothing to say."""

    wanted: int = 0  # spec.replicas of its Deployment
    exists: int = 0  # pods that are not gone yet, those that end included
    ready: int = 0
    is_settled: bool = False  # its Deployment says that as many as wanted are ready, and no others
    hard_failure: str = ""  # what cannot pass by itself: crashes, an image or model that is refused
    unschedulable: str = ""  # what the scheduler says about pods that have no node


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSight:
    """What is known about the route that the *stored* status asks for.

    `version` is of that route; `is_confirmed` when every ready router pod, or the router's object,
    says that it is in force. `refusal` is why it is not accepted; `waiting` whose answer is
    missing, where that is known.
    """

    version: str = ""
    is_confirmed: bool = False
    refusal: str = ""
    waiting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSight:
    """The pods of the built-in router; `settled` when all that are wanted are ready."""

    wanted: int = 0
    ready: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What counters said, of at most eight sources of each revision.

    `readings` are of answers to clients. `copies` are of compared pairs: `requests` are pairs and
    `errors` those that disagree (or whose copy failed); a reading that names the new revision is of
    it and stable, one that names stable is of stable with itself.
    """

    readings: tuple[Reading, ...] = ()
    copies: tuple[Reading, ...] = ()
    edges: Edges | None = None  # by which slow ones were told, where the run has none yet


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAnswer:
    """Of a query or a webhook. `passed` is None when there is no decision."""

    name: str
    passed: bool | None
    message: str = ""  # what was found and what was expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look at the world, at `now` (aware, in UTC).

    `answers` is None if nobody was asked this time; then `metrics_unavailable` says why nobody
    could be, if somebody should have been.
    """

    now: datetime
    revisions: Mapping[str, RevisionSight] = MappingProxyType({})
    route: RouteSight = RouteSight()
    router: RouterSight = RouterSight()
    answers: Answers | None = None
    metrics_unavailable: str = ""
    preflight: PreflightOutcome | None = None  # its Job has ended with an answer
    preflight_failure: str = ""  # its Job has ended without one
    checks: tuple[CheckAnswer, ...] | None = None  # None if they were not asked this time

    def of(self, revision: str) -> RevisionSight:
        return self.revisions.get(revision, RevisionSight())
