"""Body of /status."""

from modelserver_runtime.rest.schemas.cache import CacheStats
from modelserver_runtime.rest.schemas.fields import Answer
from modelserver_runtime.rest.schemas.models import ModelReports


class EngineReport(Answer):
    """Of a model in memory: `circuits` are closed, open or half open, by way of failing."""

    model: str
    running: int
    waiting: int
    circuits: dict[str, str]


class DeviceReport(Answer):
    """`reason` says why a device is not usable."""

    name: str
    is_usable: bool
    description: str
    memory_bytes: int | None
    details: tuple[str, ...]
    reason: str


class ServerStatus(Answer):
    """`status` is what /readyz says, `reason` why it is not ready."""

    status: str
    reason: str
    version: str
    revision: str
    uptime_seconds: float
    models: ModelReports
    engines: list[EngineReport]
    cache: CacheStats
    hardware: list[DeviceReport]
