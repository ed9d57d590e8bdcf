"""Events: what a user should hear about, once, when it happens."""

from dataclasses import dataclass
from enum import StrEnum

from modelserver_operator.plan.values import Manifest


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Fields as in events.k8s.io/v1; `message` is its `note`, at most 1024 characters."""

    type: EventType
    reason: str
    action: str
    message: str


def events_of(old_status: Manifest, new_status: Manifest) -> tuple[Event, ...]:
    """The transitions between two statuses as stored (`{}` for none); none if nothing changed."""
    raise NotImplementedError
