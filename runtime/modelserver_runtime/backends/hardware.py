"""What there is to compute with, and of what there is not, why."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """`name` is what the setting `device` calls it; `reason` says why an unusable one is so.

    `memory_bytes` is what the device has in total, None where that is not told.
    """

    kind: str
    name: str
    description: str = ""
    memory_bytes: int | None = None
    details: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_usable(self) -> bool:
        return not self.reason

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_usable": self.is_usable}


type Detector = Callable[[], Sequence[Device]]


def missing(kind: str, reason: str) -> list[Device]:
    return [Device(kind=kind, name=kind, reason=reason)]


def detect(detectors: Sequence[Detector]) -> tuple[Device, ...]:
    """Devices of every kind, in the detectors' order; a kind that is not there has one too."""
    return tuple(device for detector in detectors for device in detector())
