"""A ModelServer's status, as the API server sends it, read into what people are shown."""

from modelserver_runtime.gateway.cluster.report import (
    Condition,
    Diagnosis,
    Experiment,
    Gate,
    Rollout,
    Scaled,
    Scaling,
    ServerReport,
    Side,
    Track,
)
from modelserver_runtime.gateway.cluster.values import Json, number, part, parts, text, whole

_LONGEST_SECONDS = 86_400.0


def read_report(spec: Json, status: Json) -> ServerReport:
    scaling = _scaling(part(status, "scaling"))
    return ServerReport(
        wanted=_wanted(spec, scaling),
        ready=whole(status.get("readyReplicas")) or 0,
        eta_seconds=number(part(status, "artifact").get("etaSeconds"), _LONGEST_SECONDS),
        target_revision=text(status, "targetRevision"),
        diagnosis=_diagnosis(part(status, "diagnosis")),
        rollout=_rollout(part(status, "rollout")),
        scaling=scaling,
        experiments=tuple(map(_experiment, parts(status, "experiments"))),
        conditions=tuple(map(_condition, parts(status, "conditions"))),
    )


def _wanted(spec: Json, scaling: Scaling | None) -> int:
    """As long as nothing scales it, what the spec says; one where it says nothing."""
    if spec.get("suspend") is True:
        return 0
    if scaling is not None:
        return scaling.desired
    wanted = whole(spec.get("replicas"))
    return 1 if wanted is None else wanted


def _diagnosis(item: Json) -> Diagnosis | None:
    if not text(item, "code"):
        return None
    return Diagnosis(
        code=text(item, "code"), message=text(item, "message"), hint=text(item, "hint")
    )


def _condition(item: Json) -> Condition:
    return Condition(
        type=text(item, "type"),
        status=text(item, "status"),
        reason=text(item, "reason"),
        message=text(item, "message"),
        since=text(item, "lastTransitionTime"),
    )


def _rollout(item: Json) -> Rollout | None:
    if not text(item, "phase"):
        return None
    weights = part(item, "weights")
    steps = [whole(step.get("weightPercent")) for step in parts(part(item, "spec"), "steps")]
    return Rollout(
        source=text(item, "from"),
        target=text(item, "to"),
        strategy=text(item, "strategy"),
        phase=text(item, "phase"),
        began=text(item, "startTime"),
        message=text(item, "message"),
        steps=tuple(step for step in steps if step is not None),
        step=(whole(item.get("stepIndex")) or 0) + 1,
        intended_percent=_percent(weights, "intended"),
        confirmed_percent=_percent(weights, "confirmed"),
        observed_percent=text(weights, "observedPercent"),
        mirror_percent=_percent(item, "mirrorPercent"),
        holding=text(part(item, "holding"), "message"),
        paused_by=text(part(item, "paused"), "by"),
        evidence=text(item, "evidence"),
        gates=tuple(map(_gate, parts(item, "gates"))),
        sides=tuple(map(_side, parts(item, "comparison"))),
    )


def _percent(item: Json, name: str) -> int:
    return min(max(whole(item.get(name)) or 0, 0), 100)


def _gate(item: Json) -> Gate:
    return Gate(
        name=text(item, "name"), outcome=text(item, "outcome"), message=text(item, "message")
    )


def _side(item: Json) -> Side:
    return Side(
        revision=text(item, "revision"),
        requests=whole(item.get("requests")) or 0,
        errors_percent=text(item, "errorsPercent"),
        slow_percent=text(item, "slowPercent"),
    )


def _experiment(item: Json) -> Experiment:
    return Experiment(
        name=text(item, "name"),
        revision=text(item, "revision"),
        phase=text(item, "phase"),
        message=text(item, "message"),
        wanted=whole(item.get("replicas")) or 0,
        ready=whole(item.get("readyReplicas")) or 0,
        answered=_track(part(item, "answered")),
        stable=_track(part(item, "stable")),
    )


def _track(item: Json) -> Track:
    return Track(
        requests=whole(item.get("requests")) or 0,
        errors_percent=text(item, "errorsPercent"),
        p50_milliseconds=whole(item.get("p50Milliseconds")),
        p90_milliseconds=whole(item.get("p90Milliseconds")),
    )


def _scaling(item: Json) -> Scaling | None:
    if not text(item, "engine"):
        return None
    zero = part(item, "zero")
    return Scaling(
        engine=text(item, "engine"),
        desired=whole(item.get("desired")) or 0,
        least=whole(item.get("minReplicas")) or 0,
        most=whole(item.get("maxReplicas")) or 0,
        reason=text(item, "reason"),
        message=text(item, "message"),
        since=text(item, "since"),
        phase=text(zero, "phase"),
        phase_since=text(zero, "since"),
        cold_start_seconds=number(item.get("coldStartSeconds"), _LONGEST_SECONDS),
        last_active=text(item, "lastActiveAt"),
        history=tuple(map(_scaled, parts(item, "history")))[::-1],
    )


def _scaled(item: Json) -> Scaled:
    return Scaled(
        at=text(item, "at"),
        before=whole(item.get("from")) or 0,
        after=whole(item.get("to")) or 0,
        reason=text(item, "reason"),
    )
