"""What the server is doing, and whether it is well: the truth behind the health routes.

Loading → WarmingUp → Ready → Draining
    └─────────┴──────────▶ Failed
"""

from dataclasses import dataclass

from modelserver_runtime.artifacts import Phase, Progress, ProgressReport
from modelserver_runtime.engine.service import ModelService
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import NotReady, StartupFailure
from modelserver_runtime.telemetry import ModelTelemetry

# Clients are asked to come back after this while the model loads.
_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`reason` is a sentence when not well."""

    is_well: bool
    reason: str = ""


class Lifecycle:
    """Used on the event loop; `progress` may be written by the thread that loads."""

    def __init__(
        self, *, telemetry: ModelTelemetry, clock: Clock, step_timeout_seconds: float
    ) -> None:
        self.progress = Progress(phase=Phase.LOADING, clock=clock)
        self.failure: StartupFailure | None = None
        self._telemetry = telemetry
        self._clock = clock
        self._began = clock()
        self._step_timeout = step_timeout_seconds
        self._service: ModelService | None = None
        self._draining = False

    @property
    def is_draining(self) -> bool:
        return self._draining

    @property
    def current(self) -> ModelService | None:
        return self._service

    @property
    def service(self) -> ModelService:
        """The model; raises NotReady while there is none."""
        if self._service is None:
            report = self.progress.report()
            raise NotReady(
                f"The model is not ready yet: {report.phase}, {report.percent} %",
                retry_after_seconds=report.eta_seconds or _RETRY_SECONDS,
            )
        return self._service

    def became_ready(self, service: ModelService) -> None:
        self._service = service
        self._telemetry.load_seconds.set(self._clock() - self._began)
        if not self._draining:
            self.progress.enter(Phase.READY)
            self._telemetry.ready.set(1)

    def failed(self, failure: StartupFailure) -> None:
        self.failure = failure
        self.progress.enter(Phase.FAILED, message=failure.message)

    def begin_drain(self) -> None:
        self._draining = True
        self.progress.enter(Phase.DRAINING)
        self._telemetry.ready.set(0)

    def report(self) -> ProgressReport:
        return self.progress.report()

    def readiness(self) -> Health:
        if self._draining:
            return Health(is_well=False, reason="The server is draining and will end")
        if self._service is None:
            return Health(is_well=False, reason="The model is not loaded yet")
        return self.liveness()

    def liveness(self) -> Health:
        """Proves progress: the thread lives, and its present step has not taken too long."""
        if self.failure is not None:
            return Health(is_well=False, reason=self.failure.message)
        if self._service is None:
            return Health(is_well=True)
        worker = self._service.worker
        if not worker.is_alive:
            return Health(is_well=False, reason="The model's thread has died")
        stuck = worker.heartbeat.stuck_seconds(self._clock())
        if stuck > self._step_timeout:
            return Health(
                is_well=False,
                reason=f"A step of the model has been running for {stuck:.0f} s; "
                f"at most {self._step_timeout:.0f} s are allowed",
            )
        return Health(is_well=True)
