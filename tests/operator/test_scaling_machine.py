"""How the number of pods goes on, and that whoever asks always finds a pod or the gateway."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.apis.autoscaling import ScalingEngine
from modelserver_operator.apis.scaling_status import (
    Scaling,
    ScalingStatus,
    ZeroPhase,
    ZeroStatus,
)
from modelserver_operator.scaling.effects import effects_of
from modelserver_operator.scaling.engine import EngineChoice
from modelserver_operator.scaling.handover import GATEWAY_MANAGER
from modelserver_operator.scaling.machine import decide, free_port
from modelserver_operator.scaling.samples import PodReading
from modelserver_operator.scaling.sight import ScalingSight, ScalingWish
from support.autoscalers import an_autoscaling
from support.scaling_world import Api, Operator

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SETTLE, START, IDLE = 10, 30, 60
HPA, KEDA, OPERATOR = ScalingEngine.HPA, ScalingEngine.KEDA, ScalingEngine.OPERATOR
SLEEPY = {"minReplicas": 0, "zero": {"idleSeconds": IDLE}, "scaleDownDelaySeconds": 60}


def a_wish(engine=OPERATOR, **scaling):
    choice = EngineChoice(engine=engine, reason="Chosen", message="")
    return ScalingWish(scaling=an_autoscaling(**scaling), choice=choice, settle_seconds=SETTLE)


@dataclass
class World:
    """A server with pods that take a while to start, a gateway, and an operator that may be away.

    `counted` are requests that each pod has answered; `in_flight` is per pod.
    """

    wish: ScalingWish
    now: datetime = NOON
    api: Api = field(default_factory=Api)
    status: ScalingStatus | None = None
    begun: list[datetime] = field(default_factory=list)  # of pods
    slice_since: datetime | None = None
    counted: int = 0
    in_flight: float = 0.0
    lost: int = 0
    wake_seconds: float | None = None

    def __post_init__(self):
        self.operator = Operator(self.api)
        self.settle(START + 1)

    @property
    def ready(self):
        return sum(1 for begun in self.begun if (self.now - begun).total_seconds() >= START)

    @property
    def phase(self):
        return self.status.zero.phase if self.status.zero else None

    def sight(self):
        asked = self.status is not None and self.phase not in {ZeroPhase.COLD, ZeroPhase.WAKING}
        uids = [f"pod-{begun.timestamp()}-{n}" for n, begun in enumerate(self.begun)]
        readings = [
            PodReading(pod=uid, at=self.now, requests=self.counted, in_flight=self.in_flight)
            for uid in uids[: self.ready]
        ]
        return ScalingSight(
            now=self.now,
            ownership=self.api.look()[1].ownership or ScalingSight(now=self.now).ownership,
            pods=uids,
            ready=self.ready,
            readings=readings if asked else None,
            is_slice_seen=self.slice_since is not None,
            is_gateway_ready=True,
        )

    def look(self):
        """One reconciliation: what was stored is carried out, then the next is stored."""
        if self.status is not None:
            self.carry_out()
        decided = decide(self.status, self.sight(), self.wish)
        self.status, self.wake_seconds = decided.status, decided.wake_seconds

    def carry_out(self):
        effects = effects_of(self.status)
        if effects.is_held:
            self.slice_since = self.slice_since or self.now
        elif self.slice_since is not None:
            # Of new pods every proxy has to learn; those of a Standby that ended are known.
            is_new = self.status.zero is not None and self.status.zero.reason == "Ready"
            assert self.since(self.begun[0]) >= START + (SETTLE if is_new else 0)
            self.slice_since = None
        had_pods = self.api.replicas > 0
        self.operator.work(
            effects.engine, effects.replicas, is_asleep=effects.is_asleep, is_scaled=True
        )
        if had_pods and self.api.replicas == 0:
            assert self.since(self.slice_since) >= SETTLE
        self.run_pods()

    def since(self, moment):
        return (self.now - moment).total_seconds()

    def run_pods(self):
        """The kubelet and the other controllers."""
        self.api.ending.clear()
        wanted = self.api.replicas if self.api.exists else 0
        self.begun = sorted(self.begun)[:wanted]
        self.begun += [self.now] * (wanted - len(self.begun))

    def pass_time(self, seconds):
        self.now += timedelta(seconds=seconds)

    def settle(self, seconds):
        """Time with an operator that looks at every second."""
        for _ in range(seconds):
            self.look()
            self.pass_time(1)

    def request(self):
        """By the Service: a ready pod answers, or the gateway holds it and asks for a pod."""
        if self.ready:
            self.counted += 1
        elif self.slice_since is not None:
            if self.api.replicas == 0:
                self.api.scale(GATEWAY_MANAGER, 1)
                self.run_pods()
        else:
            self.lost += 1


@pytest.mark.parametrize("engine", [OPERATOR, HPA, KEDA])
def test_a_day_of_a_server_that_sleeps(engine):
    world = World(a_wish(engine, **SLEEPY))
    world.settle(5)
    assert (world.phase, world.ready) == (ZeroPhase.WARM, 1)
    assert (engine in world.api.autoscalers) == (engine is not OPERATOR)
    world.settle(2 * IDLE)
    assert (world.phase, world.api.replicas, world.api.autoscalers) == (ZeroPhase.COLD, 0, set())
    assert world.slice_since is not None
    world.settle(500)
    assert world.phase is ZeroPhase.COLD
    world.request()
    world.settle(2)
    assert (world.phase, world.status.zero.reason) == (ZeroPhase.WAKING, "Request")
    world.settle(START + SETTLE + 3)
    assert (world.phase, world.ready, world.slice_since) == (ZeroPhase.WARM, 1, None)
    assert START - 2 <= world.status.cold_start_seconds <= START + 2
    changes = [(one.from_, one.to, one.reason) for one in world.status.history]
    assert [(a, b) for a, b, _ in changes] == [(1, 0), (0, 1)]
    assert world.status.holder_port == 20_000


def test_a_client_that_asked_once_and_left_keeps_it_awake_for_the_idle_time():
    world = World(a_wish(**SLEEPY))
    world.settle(2 * IDLE)
    world.request()
    world.settle(START + SETTLE + IDLE - 5)
    assert world.phase in {ZeroPhase.WARM, ZeroPhase.STANDBY}
    assert world.ready == 1


def test_it_is_woken_while_no_operator_runs_and_that_is_seen_later():
    world = World(a_wish(**SLEEPY))
    world.settle(2 * IDLE)
    world.request()
    world.pass_time(300)
    assert world.ready == 1
    world.settle(SETTLE + 3)
    assert (world.phase, world.lost) == (ZeroPhase.WARM, 0)


def test_activity_in_standby_ends_it():
    world = World(a_wish(**SLEEPY))
    while world.phase is not ZeroPhase.STANDBY:
        world.settle(1)
    world.settle(2)
    world.request()
    world.settle(2)
    assert (world.phase, world.status.zero.reason) == (ZeroPhase.WARM, "Activity")
    assert world.ready == 1


def test_a_long_answer_keeps_it_awake():
    world = World(a_wish(**SLEEPY))
    world.in_flight = 1.0
    world.settle(5 * IDLE)
    assert world.phase is ZeroPhase.WARM


def test_a_pod_that_says_nothing_is_not_put_to_sleep():
    world = World(a_wish(**SLEEPY))
    world.settle(1)
    sight = replace(world.sight(), now=NOON + timedelta(hours=9), readings=[])
    assert decide(world.status, sight, world.wish).status.zero.phase is ZeroPhase.WARM


def test_without_a_gateway_nobody_sleeps():
    world = World(a_wish(**SLEEPY))
    later = {"now": NOON + timedelta(hours=9), "is_gateway_ready": False}
    sight = replace(world.sight(), **later)
    assert decide(world.status, sight, world.wish).status.zero.phase is ZeroPhase.WARM


def test_a_server_that_starts_slowly_sleeps_later():
    world = World(a_wish(**SLEEPY))
    world.status = world.status.model_copy(update={"cold_start_seconds": 3 * IDLE})
    world.settle(2 * IDLE)
    assert world.phase is ZeroPhase.WARM
    world.settle(2 * IDLE)
    assert world.phase is ZeroPhase.COLD


WAKING = {
    "a schedule": (
        {
            "schedules": [
                {"name": "s", "start": "12:10", "end": "13:00", "minReplicas": 3},
            ]
        },
        {},
        "Schedule",
        3,
    ),
    "a run": ({}, {"is_rolling": True}, "Rollout", 1),
    "experiments": ({}, {"awake_because": "Experiments"}, "Experiments", 1),
}


@pytest.mark.parametrize("case", WAKING)
def test_what_else_wakes_it(case):
    scaling, wish, reason, replicas = WAKING[case]
    world = World(a_wish(**SLEEPY, **scaling))
    world.settle(3 * IDLE)
    assert world.phase is ZeroPhase.COLD
    world.wish = replace(world.wish, **wish)
    world.now = NOON + timedelta(minutes=10)
    world.settle(2)
    assert (world.phase, world.status.zero.reason) == (ZeroPhase.WAKING, reason)
    world.settle(START + SETTLE + 5)
    assert world.api.replicas == replicas


def test_a_server_that_may_not_sleep_any_more_is_woken():
    world = World(a_wish(**SLEEPY))
    world.settle(3 * IDLE)
    world.wish = a_wish(minReplicas=2)
    world.settle(START + SETTLE + 5)
    assert (world.api.replicas, world.status.zero, world.slice_since) == (2, None, None)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.just(0)),
        st.tuples(st.just("look"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(1, 20)),
        st.tuples(st.just("time without an operator"), st.integers(1, 90)),
        st.tuples(st.just("answering"), st.integers(0, 2)),
        st.tuples(st.just("a decision that is refused"), st.just(0)),
        st.tuples(st.just("killed in the middle"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(engine=st.sampled_from([OPERATOR, HPA, KEDA]), events=EVENTS)
def test_whoever_asks_finds_a_pod_or_the_gateway(engine, events):
    world = World(a_wish(engine, **SLEEPY))
    for event, value in events:
        play(world, event, value)
        assert world.ready or world.slice_since, f"nobody answers after {event}"
    assert world.lost == 0
    world.settle(2)
    world.request()
    world.settle(START + 2)
    assert world.ready


def play(world, event, value):
    match event:
        case "request":
            world.request()
        case "look":
            world.look()
        case "settle":
            world.settle(value)
        case "time without an operator":
            world.pass_time(value)
        case "answering":
            world.in_flight = float(value)
        case "a decision that is refused":
            decide(world.status, world.sight(), world.wish)
        case "killed in the middle":
            world.carry_out()


# -- the operator's own engine ---------------------------------------------------------------------


def test_it_grows_at_once_and_shrinks_after_the_delay():
    world = World(a_wish(scaleDownDelaySeconds=60))
    world.in_flight = 24.0
    world.settle(2)
    assert world.status.desired == 3
    assert world.status.reason == "inflight 24/8"
    world.settle(START)
    world.in_flight = 0.0
    world.settle(30)
    assert world.status.desired >= 3
    world.settle(180)
    assert world.status.desired == 1


def test_a_burst_grows_by_doubling():
    world = World(a_wish(maxReplicas=100))
    world.in_flight = 800.0
    world.look()
    assert world.status.desired == 5
    assert world.status.reason == "inflight 800/8 wants 100"


def test_nothing_shrinks_while_a_run_goes_on():
    world = World(a_wish(scaleDownDelaySeconds=0))
    world.in_flight = 24.0
    world.settle(START + 3)
    grown = world.status.desired
    world.in_flight = 0.0
    world.wish = replace(world.wish, is_rolling=True)
    world.settle(200)
    assert world.status.desired == grown >= 3
    world.wish = replace(world.wish, is_rolling=False)
    world.settle(5)
    assert world.status.desired == 1


def test_who_scaled_before_had_reasons():
    """A hand-over to the operator keeps the pods for as long as the delay."""
    world = World(a_wish(KEDA, maxReplicas=9))
    world.settle(5)
    world.api.scale("kube-controller-manager", 6)
    world.run_pods()
    world.settle(START + 2)
    assert world.status.desired == 6
    world.wish = a_wish(OPERATOR, maxReplicas=9, scaleDownDelaySeconds=120)
    world.settle(60)
    assert (world.status.desired, world.api.replicas) == (6, 6)
    world.settle(240)
    assert world.api.replicas == 1


def test_a_restart_forgets_nothing():
    """The status goes through JSON at every look."""
    world = World(a_wish(scaleDownDelaySeconds=60))
    world.in_flight = 24.0
    for _ in range(40):
        world.look()
        stored = world.status.model_dump_json(by_alias=True, exclude_none=True)
        world.status = ScalingStatus.model_validate_json(stored)
        world.in_flight = 0.0
        world.pass_time(1)
    assert world.status.desired == 3


def test_it_looks_again_when_a_schedule_begins_or_ends():
    schedule = {"name": "s", "start": "12:00", "end": "12:10", "minReplicas": 2}
    world = World(a_wish(HPA, schedules=[schedule], metrics=[{"name": "cpu", "target": 5}]))
    assert (world.status.min_replicas, effects_of(world.status).least) == (2, 2)
    world.look()
    assert 0 < world.wake_seconds <= 600
    world.now = NOON + timedelta(minutes=11)
    world.look()
    assert world.status.min_replicas == 1


def test_ports_are_the_lowest_that_are_free():
    assert free_port(frozenset()) == 20_000
    assert free_port(frozenset({20_000, 20_001, 20_003})) == 20_002
    assert free_port(frozenset(range(20_000, 30_000))) is None


def test_the_largest_status_is_below_two_kibibytes():
    moment = "2026-11-21T12:00:00Z"
    change = Scaling(at=moment, from_=1000, to=1000, reason="r" * 40)
    zero = ZeroStatus(phase=ZeroPhase.STANDBY, since=moment, reason="r" * 20, settling_since=moment)
    status = ScalingStatus(
        engine=OPERATOR,
        desired=1000,
        reason="r" * 40,
        message="m" * 160,
        since=moment,
        min_replicas=1000,
        max_replicas=1000,
        window=("1800000000:1000",) * 8,
        last_active_at=moment,
        activity="a" * 16,
        zero=zero,
        cold_start_seconds=100_000,
        holder_port=20_000,
        history=(change,) * 10,
    )
    stored = status.model_dump(mode="json", by_alias=True)
    assert len(json.dumps(stored, separators=(",", ":"))) < 2048
    assert ScalingStatus.model_validate_json(json.dumps(stored)) == status
