"""What all routers are told: which revisions answer, how much each, and who is treated apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelserver_operator.apis.rollout import Comparison
from modelserver_operator.apis.traffic import ExperimentMatch, Sticky

WHOLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Requests that are copied; see `apis.rollout.Shadow` for the fields."""

    revision: str  # gets the copies
    percent: int
    baseline_percent: int = 0  # of the copies; asked of the stable revision a second time
    compare: Comparison = Comparison.AUTO
    min_cosine_percent: int = 98


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Requests wait at the router instead of being sent on; what is beyond a bound is refused."""

    # Of each router: together they hold 50 requests a second for half a minute. Each is an open
    # file, and a process has 1024 of them where nobody has given it more.
    max_requests: int = 800
    max_bytes: int = 64 * 1024 * 1024
    max_seconds: int = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedExperiment:
    """Requests that match are answered by `revision`, whatever the weights say."""

    name: str
    revision: str
    match: ExperimentMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The whole route of a server. Every router writes it as one object, so it changes at once.

    `weights` name live revisions and sum to 100; one that is absent gets nothing. `revisions` are
    all that exist and may be named: a route is never made before the Services of these.
    """

    stable: str
    revisions: tuple[str, ...]
    weights: Mapping[str, int]
    timeout_seconds: int
    experiments: tuple[RoutedExperiment, ...] = ()
    sticky: Sticky | None = None
    mirror: Mirror | None = None
    hold: Hold | None = None
    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(self.weights.values()) != WHOLE or min(self.weights.values()) < 0:
            raise ValueError(f"weights must sum to 100 and none be negative: {dict(self.weights)}")
        if unknown := sorted(self._named - set(self.revisions)):
            raise ValueError(f"the route names revisions that do not exist: {', '.join(unknown)}")

    @property
    def _named(self) -> set[str]:
        mirrored = {self.mirror.revision} if self.mirror else set()
        tried = {one.revision for one in self.experiments}
        return {self.stable, *self.weights, *mirrored, *tried}

    @property
    def shares(self) -> Mapping[str, int]:
        """Weights of those that get some, the stable revision first."""
        order = sorted(self.weights, key=lambda one: (one != self.stable, one))
        return {one: self.weights[one] for one in order if self.weights[one]}
