"""What becomes of the number of pods: the look at the world that `scaling.machine` decides by."""

from collections.abc import Iterable

from modelserver_operator.apis.quantity import amount_of
from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.plan.looks import is_going
from modelserver_operator.plan.scaling_values import ScalingHeard
from modelserver_operator.plan.sizing import ownership_seen
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.containers import SERVER
from modelserver_operator.resources.kinds import ENDPOINT_SLICE
from modelserver_operator.rollout.effects import is_going_on
from modelserver_operator.scaling.effects import effects_of
from modelserver_operator.scaling.machine import NextScaling, decide
from modelserver_operator.scaling.samples import PodReading, Requests
from modelserver_operator.scaling.sight import NO_REQUESTS, ScalingSight, ScalingWish
from modelserver_operator.status import pods
from modelserver_operator.status.situation import Situation

NO_SCALING = NextScaling(status=None, wake_seconds=None)


def scaling_of(situation: Situation) -> NextScaling:
    """A server that is suspended, or deleted, goes on where it was."""
    server, sizing = situation.server, situation.plan.sizing
    if server.spec.autoscaling is None:
        return NO_SCALING
    if sizing.autoscaling is None or sizing.choice is None or not _revision(situation):
        return NextScaling(status=server.status.scaling, wake_seconds=None)
    wish = ScalingWish(
        scaling=sizing.autoscaling,
        choice=sizing.choice,
        requests=_requests(_counted_pods(situation)),
        is_rolling=_is_rolling(situation),
        awake_because=_awake_because(situation),
        settle_seconds=situation.plan.wish.settle_seconds if situation.plan.wish else 0.0,
    )
    return decide(server.status.scaling, _sight(situation), wish)


def what_is_scaled(scaling: ScalingStatus | None) -> object:
    """What asks for other children, of a status."""
    return effects_of(scaling) if scaling is not None else None


def _revision(situation: Situation) -> str:
    """What serves, or is about to as the first."""
    return situation.plan.serving_revision or situation.target


def _is_rolling(situation: Situation) -> bool:
    """A run that begins while the server sleeps waits, and does not wake it."""
    if situation.plan.sizing.replicas == 0:
        return False
    return is_going_on(situation.server.status.rollout) or situation.is_rolling


def _awake_because(situation: Situation) -> str:
    """Requests of experiments come through a router, which has no place for the gateway."""
    traffic = situation.server.spec.traffic
    is_asked_for = traffic is not None and bool(traffic.experiments)
    is_left = situation.server.status.experiment_traffic is not None
    return "Experiments" if is_asked_for or is_left else ""


def _sight(situation: Situation) -> ScalingSight:
    observed, seen = situation.observed, situation.observed.scaling
    counted = _counted_pods(situation)
    heard = seen.heard
    return ScalingSight(
        now=situation.now,
        ownership=ownership_seen(situation.server, _revision(situation), observed),
        pods=tuple(pod["metadata"]["uid"] for pod in counted),
        ready=sum(map(pods.is_ready, situation.pods_of(_revision(situation)))),
        readings=_readings(heard, counted) if heard is not None else None,
        before=seen.last.readings if seen.last is not None else {},
        queries=heard.queries if heard is not None else {},
        is_slice_seen=_is_slice_seen(situation),
        is_gateway_ready=bool(seen.gateways),
        taken_ports=seen.taken_ports,
    )


def _counted_pods(situation: Situation) -> list[Manifest]:
    """Of all revisions that get requests: during a run the load is that of both together."""
    live = situation.plan.replicas.keys()
    return [
        pod
        for pod in situation.workload_pods
        if pods.revision_of(pod) in live and pods.is_alive(pod) and not is_going(pod)
    ]


def _readings(heard: ScalingHeard, counted: Iterable[Manifest]) -> tuple[PodReading, ...]:
    uids = [pod["metadata"]["uid"] for pod in counted]
    return tuple(heard.readings[uid] for uid in uids if uid in heard.readings)


def _is_slice_seen(situation: Situation) -> bool:
    """The gateway's addresses are written as they are now, wherever they shall be."""
    plan = situation.plan
    is_open = any(write.manifest["kind"] == ENDPOINT_SLICE.kind for write in plan.writes)
    return bool(situation.kept_children(ENDPOINT_SLICE.kind)) and not is_open


def _requests(counted: Iterable[Manifest]) -> Requests:
    """Of the container that serves, as the API server knows it of any of the pods."""
    for pod in counted:
        for container in pod["spec"].get("containers", ()):
            if container["name"] == SERVER:
                asked = container.get("resources", {}).get("requests") or {}
                cpu, memory = (amount_of(asked.get(one, "0")) for one in ("cpu", "memory"))
                return Requests(cpu_cores=float(cpu), memory_bytes=float(memory))
    return NO_REQUESTS
