"""A cluster as small as a rollout sees it: pods, routers, counters, and an operator that may die.

One look of the operator is, as in the real one: effects of the stored status → decision → write. A
kill may come before the effects, between any two of them, or before the write.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.rollout_status import Edges, PreflightOutcome, Rollout, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout.counts import Counts, Reading
from modelserver_operator.rollout.effects import Effects, effects_of, is_governed
from modelserver_operator.rollout.machine import Next, decide
from modelserver_operator.rollout.sight import (
    Answers,
    CheckAnswer,
    RevisionSight,
    RouterSight,
    RouteSight,
    Sight,
    Wish,
)

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
START = datetime(2026, 8, 24, 10, tzinfo=UTC)
FINISHED = frozenset({RolloutPhase.SUCCEEDED, RolloutPhase.ROLLED_BACK})

EVERYTHING_READY = 10_000  # looks; a run needs about thirty


@dataclass(slots=True)
class Pods:
    """Of one revision. `exists` includes those that end."""

    wanted: int = 0
    exists: int = 0
    ready: int = 0
    counts: Counts = field(default_factory=Counts)
    began: datetime = START


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    weights: MappingProxyType
    mirrored: str = ""
    is_holding: bool = False


@dataclass(slots=True)
class World:
    rules: RolloutSpec
    replicas: int = 4
    target: str = A
    router: Router = Router.GATEWAY
    now: datetime = START
    status: ModelServerStatus = field(
        default_factory=lambda: ModelServerStatus(
            serving_revision=A, serving_since="2026-08-01T00:00:00Z"
        )
    )
    command: str = ""
    known: frozenset[str] = frozenset({A, B, C})
    pods: dict[str, Pods] = field(default_factory=dict)
    routers_ready: int = 0
    written: Route | None = None  # what the operator has written
    in_force: Route | None = None  # what the routers do
    root: str = A
    is_root_routed: bool = False
    refusal: str = ""
    unanswered: str = ""  # who has not said so yet
    are_routers_stuck: bool = False
    metrics_unavailable: str = ""
    preflight: PreflightOutcome | None = None
    preflight_failure: str = ""
    checks: tuple[CheckAnswer, ...] | None = None
    hard_failures: dict[str, str] = field(default_factory=dict)
    no_room: set[str] = field(default_factory=set)
    bad_percent: dict[str, int] = field(default_factory=dict)
    disagreement_percent: int = 0
    copies: dict[str, Counts] = field(default_factory=dict)
    sources: int = 1  # pods of each revision whose counters are asked
    rest: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)  # requests that nobody could answer
    history: list[ModelServerStatus] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    wake_seconds: float | None = None

    def __post_init__(self):
        if self.status.serving_revision:
            serving = self.status.serving_revision
            self.pods[serving] = Pods(self.replicas, self.replicas, self.replicas)
            self.root = serving

    # ---- what is asked and seen ------------------------------------------------------------------

    @property
    def wish(self) -> Wish:
        return Wish(
            generation=7,
            target=self.target,
            replicas=self.replicas,
            rollout=self.rules,
            router=self.router,
            command=self.command,
            known_revisions=self.known,
        )

    @property
    def run(self) -> Rollout:
        assert self.status.rollout is not None
        return self.status.rollout

    @property
    def phase(self) -> RolloutPhase | None:
        return self.status.rollout.phase if self.status.rollout else None

    @property
    def weight(self) -> int:
        return self.run.weights.intended

    def effects(self) -> Effects | None:
        return effects_of(self.status, self.wish) if is_governed(self.status, self.wish) else None

    def sight(self) -> Sight:
        effects = self.effects()
        route = _route(effects) if effects and effects.is_router_wanted else None
        is_confirmed = route is not None and route == self.in_force
        return Sight(
            now=self.now,
            revisions={name: self._seen(name) for name in self.pods},
            route=RouteSight(
                version="f00d",
                is_confirmed=is_confirmed and not self.refusal and not self.unanswered,
                refusal=self.refusal,
                waiting=self.unanswered,
            ),
            router=RouterSight(wanted=2, ready=self.routers_ready),
            answers=None if self.metrics_unavailable else self._answers(),
            metrics_unavailable=self.metrics_unavailable,
            preflight=self.preflight if effects and effects.preflight else None,
            preflight_failure=self.preflight_failure,
            checks=self.checks,
        )

    def _seen(self, name: str) -> RevisionSight:
        pods = self.pods[name]
        return RevisionSight(
            wanted=pods.wanted,
            exists=pods.exists,
            ready=pods.ready,
            is_settled=pods.ready == pods.wanted == pods.exists,
            hard_failure=self.hard_failures.get(name, ""),
            unschedulable="0/3 nodes are available" if name in self.no_room else "",
        )

    def _answers(self) -> Answers:
        return Answers(
            readings=tuple(
                Reading(source=f"{number:08x}", revision=name, counts=pods.counts, began=pods.began)
                for name, pods in self.pods.items()
                for number in range(self.sources)
            ),
            copies=tuple(
                Reading(source="0000000a", revision=name, counts=counts, began=START)
                for name, counts in self.copies.items()
            ),
            edges=Edges(latency=250),
        )

    # ---- what the operator does ------------------------------------------------------------------

    def apply(self, steps: int = EVERYTHING_READY):
        """The effects of the stored status, one by one; `steps` of them before a kill."""
        effects = self.effects()
        replicas = effects.replicas if effects else {self.status.serving_revision: self.replicas}
        todo = [lambda n=name, w=wanted: self._scale(n, w) for name, wanted in replicas.items()]
        todo += [lambda n=name: self._scale(n, 0) for name in set(self.pods) - set(replicas)]
        todo.append(lambda: self._write_route(effects))
        todo.append(lambda: self._lead(effects))
        for step in todo[:steps]:
            step()

    def _scale(self, name: str, wanted: int):
        pods = self.pods.setdefault(name, Pods(began=self.now))
        pods.wanted = wanted
        pods.ready = min(pods.ready, wanted)

    def _write_route(self, effects: Effects | None):
        self.written = _route(effects) if effects and effects.is_router_wanted else None

    def _lead(self, effects: Effects | None):
        self.root = effects.root if effects else self.status.serving_revision
        self.is_root_routed = bool(effects and effects.is_root_routed)

    def decide(self) -> Next:
        return decide(self.status, self.sight(), self.wish)

    def store(self, result: Next):
        before = self.status
        text = result.status.model_dump_json(by_alias=True)
        self.status = ModelServerStatus.model_validate_json(text)
        self.events += [event.reason for event in result.events]
        self.wake_seconds = result.wake_seconds
        if self.status != before:
            self.history.append(self.status)

    def look(self):
        self.apply()
        self.store(self.decide())

    # ---- what the cluster does -------------------------------------------------------------------

    def start_pods(self):
        for name, pods in self.pods.items():
            pods.exists = pods.wanted
            is_bad = name in self.no_room or name in self.hard_failures
            pods.ready = 0 if is_bad else pods.wanted

    def read_route(self):
        if not self.are_routers_stuck and self.written is not None:
            self.in_force = self.written

    def start_routers(self):
        self.routers_ready = 2 if self.written is not None and not self.are_routers_stuck else 0

    def ask(self, requests: int):
        """Clients, whom the Service leads to the router or to pods."""
        if not self._is_held():
            for name, number in self._shares(requests).items():
                self._answer(self._able(name), number)
        self._copy(requests)

    def _shares(self, requests: int) -> dict[str, int]:
        """As the weights say in the long run, whatever is left over each time."""
        if not self.is_root_routed or self.in_force is None:
            return {self.root: requests}
        shares = {}
        for name, weight in self.in_force.weights.items():
            due = self.rest.get(name, 0) + requests * weight
            shares[name], self.rest[name] = divmod(due, 100)
        return shares

    def _able(self, name: str) -> str:
        pods = self.pods.get(name)
        return name if pods and pods.ready else self._instead_of(name)

    def _answer(self, name: str, number: int):
        pods = self.pods.get(name)
        if pods is None or pods.ready == 0:
            self.lost += [f"{self.phase}: {name}"] * number
            return
        bad = number * self.bad_percent.get(name, 0) // 100
        pods.counts += Counts(requests=number, errors=bad)

    def _is_held(self) -> bool:
        return bool(self.is_root_routed and self.in_force and self.in_force.is_holding)

    def _instead_of(self, name: str) -> str:
        """The built-in router asks stable when a revision refuses a connection."""
        if not self.is_root_routed or self.in_force is None:
            return name
        return max(self.in_force.weights, key=lambda one: self.in_force.weights[one])

    def _copy(self, requests: int):
        route = self.in_force
        if route is None or not route.mirrored:
            return
        others = [name for name in route.weights if name != route.mirrored]
        differ = requests * self.disagreement_percent // 100
        new = self.copies.get(route.mirrored, Counts())
        self.copies[route.mirrored] = new + Counts(requests=requests, errors=differ)
        old = self.copies.get(others[0], Counts())
        self.copies[others[0]] = old + Counts(requests=requests)

    def pass_time(self, seconds: float):
        self.now += timedelta(seconds=seconds)

    # ---- plays -----------------------------------------------------------------------------------

    def beat(self, requests: int = 400, seconds: float = 15):
        """All goes well for a while: one look, and everything that it asked for comes about."""
        self.look()
        self.start_pods()
        self.start_routers()
        self.read_route()
        self.ask(requests)
        self.pass_time(seconds)

    def until(self, *phases: RolloutPhase, beats: int = 200, **beat):
        for _ in range(beats):
            if self.phase in phases:
                return self
            self.beat(**beat)
        raise AssertionError(f"no {phases} but {self.phase}: {self.status.rollout}")

    def change(self, **fields):
        self.rules = self.rules.model_copy(update=fields)

    def tell(self, verb: str, revision: str = B, token: str = "1"):
        self.command = f"{verb}/{revision}/{token}"
        self.look()
        return self.status.last_command


def _route(effects: Effects) -> Route:
    return Route(
        weights=MappingProxyType(dict(effects.weights)),
        mirrored=effects.mirrored,
        is_holding=effects.is_holding_requests,
    )
