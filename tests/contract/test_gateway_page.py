"""What the operator writes into a status is what the gateway's page reads out of it."""

from dataclasses import fields, is_dataclass
from typing import Any

from modelserver_operator.apis.experiment_status import ExperimentPhase, ExperimentStatus, Track
from modelserver_operator.apis.rollout import Strategy
from modelserver_operator.apis.rollout_status import (
    GateOutcome,
    GateStatus,
    Holding,
    Paused,
    RevisionMetrics,
    Rollout,
    RolloutPhase,
    Weights,
)
from modelserver_operator.apis.scaling_status import (
    Scaling,
    ScalingEngine,
    ScalingStatus,
    ZeroPhase,
    ZeroStatus,
)
from modelserver_operator.apis.status import (
    Artifact,
    Condition,
    ConditionStatus,
    Diagnosis,
    ModelServerStatus,
)
from modelserver_runtime.gateway.cluster.report_reading import read_report
from modelserver_runtime.gateway.page.overview import _PLAYS
from modelserver_runtime.gateway.page.rollout_view import _OUTCOMES
from modelserver_runtime.tasks import find_task

AT = "2026-11-21T12:00:00Z"

ROLLOUT = Rollout(
    from_="old",
    to="new",
    strategy=Strategy.CANARY,
    phase=RolloutPhase.ANALYZING,
    start_time=AT,
    step_index=1,
    weights=Weights(intended=25, confirmed=20, observed_percent="24.8"),
    mirror_percent=10,
    holding=Holding(reason="NoTraffic", message="nobody asks", since=AT),
    paused=Paused(by="command", since=AT),
    spec={"steps": [{"weightPercent": 5}, {"weightPercent": 25}]},
    gates=(GateStatus(name="errors", outcome=GateOutcome.PASSING, message="1 of 2"),),
    comparison=(
        RevisionMetrics(revision="new", requests=7, errors_percent="0.1", slow_percent="0.2"),
    ),
    evidence="it was slow",
    message="it is held",
)
TRACK = Track(requests=30, errors_percent="1.0", p50_milliseconds=20, p90_milliseconds=40)
SCALING = ScalingStatus(
    engine=ScalingEngine.KEDA,
    desired=3,
    reason="inflight 22/8",
    message="no metrics",
    since=AT,
    min_replicas=1,
    max_replicas=8,
    last_active_at=AT,
    zero=ZeroStatus(phase=ZeroPhase.WARM, since=AT),
    cold_start_seconds=24,
    history=(Scaling(at=AT, from_=2, to=3, reason="inflight 22/8"),),
)
STATUS = ModelServerStatus(
    ready_replicas=2,
    target_revision="new",
    artifact=Artifact(eta_seconds=41),
    diagnosis=Diagnosis(code="OutOfMemory", message="killed", hint="more"),
    conditions=(
        Condition(
            type="Ready",
            status=ConditionStatus.TRUE,
            last_transition_time=AT,
            reason="Serving",
            message="all",
        ),
    ),
    rollout=ROLLOUT,
    scaling=SCALING,
    experiments=(
        ExperimentStatus(
            name="beta",
            revision="new",
            phase=ExperimentPhase.RUNNING,
            message="it runs",
            replicas=1,
            ready_replicas=1,
            answered=TRACK,
            stable=TRACK,
        ),
    ),
)


_ROUTES = {"chat": "/v1/chat/completions", "embed": "/v1/embeddings", "predict": "/predict"}


def written(status: ModelServerStatus) -> Any:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def absent(value: Any, path: str) -> list[str]:
    """The fields that say nothing, below a value."""
    if isinstance(value, tuple):
        return [f"{path} is empty"] if not value else absent(value[0], f"{path}[0]")
    if is_dataclass(value):
        return [
            missing
            for one in fields(value)
            for missing in absent(getattr(value, one.name), f"{path}.{one.name}")
        ]
    return [f"{path} is {value!r}"] if value in (None, "", 0) else []


def test_everything_that_the_page_shows_is_in_the_status():
    report = read_report({}, written(STATUS))
    assert absent(report, "report") == []
    assert report.wanted == 3
    assert report.rollout is not None
    assert (report.rollout.step, report.rollout.steps) == (2, (5, 25))


def test_the_page_knows_the_words_of_the_operator():
    assert set(_OUTCOMES) < {outcome.value for outcome in GateOutcome}
    for over in RolloutPhase:
        said = written(STATUS.model_copy(update={"rollout": Rollout(phase=over, start_time=AT)}))
        report = read_report({}, said)
        assert report.rollout is not None
        is_over = Rollout(phase=over, start_time=AT).is_over
        assert report.rollout.is_over is is_over


def test_the_playground_knows_the_tasks_of_the_runtime():
    for name, play in _PLAYS.items():
        if name in {"", "Auto"}:
            continue
        task = find_task(name)
        assert task is not None
        assert _ROUTES[play] in task.routes
        if play == "predict":
            assert task.schema is not None
            assert task.schema.inputs_adapter.validate_python("a text")
