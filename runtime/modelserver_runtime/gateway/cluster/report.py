"""What the operator says about a server, as people read it: of a ModelServer's status.

Everything may be absent, and is then empty. Times are ISO 8601 in UTC, as they were written.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: str
    reason: str
    message: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One of what decides a rollout; `message` is its evidence."""

    name: str
    outcome: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A revision beside the other one; shares are decimals in percent, as they were written."""

    revision: str
    requests: int
    errors_percent: str
    slow_percent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """`steps` are weights, of which `step` (from 1) is entered or held; both may be unknown."""

    source: str
    target: str
    strategy: str
    phase: str
    began: str
    message: str
    steps: tuple[int, ...] = ()
    step: int = 0
    intended_percent: int = 0
    confirmed_percent: int = 0
    observed_percent: str = ""
    mirror_percent: int = 0
    holding: str = ""
    paused_by: str = ""
    evidence: str = ""
    gates: tuple[Gate, ...] = ()
    sides: tuple[Side, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.phase in {"Succeeded", "RolledBack"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What was answered of an experiment, or beside it."""

    requests: int = 0
    errors_percent: str = ""
    p50_milliseconds: int | None = None
    p90_milliseconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    name: str
    revision: str
    phase: str
    message: str
    wanted: int
    ready: int
    answered: Track
    stable: Track


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    at: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """`history` has the newest first."""

    engine: str
    desired: int
    least: int
    most: int
    reason: str
    message: str
    since: str
    phase: str = ""
    phase_since: str = ""
    cold_start_seconds: float | None = None
    last_active: str = ""
    history: tuple[Scaled, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """`wanted` and `ready` are pods."""

    wanted: int = 0
    ready: int = 0
    eta_seconds: float | None = None
    target_revision: str = ""
    diagnosis: Diagnosis | None = None
    rollout: Rollout | None = None
    scaling: Scaling | None = None
    experiments: tuple[Experiment, ...] = ()
    conditions: tuple[Condition, ...] = ()
