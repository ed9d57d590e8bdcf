"""How a rollout goes on: from the stored status and one look at the world to the next status."""

from dataclasses import dataclass
from enum import StrEnum

from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.sight import Sight, Wish


class Loudness(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An Event about the rollout."""

    type: Loudness
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What is to be written; events are told after that.

    `status` differs from the stored one only in `rollout`, `servingRevision`, `servingSince`,
    `failedRevisions`, `lastCommand` and `rolledBackTo`.
    """

    status: ModelServerStatus
    events: tuple[Said, ...] = ()
    wake_seconds: float | None = None  # when to look again, if nothing happens before


def decide(status: ModelServerStatus, sight: Sight, wish: Wish) -> Next:
    """Pure: the same arguments give the same answer, and the status it gives may be refused."""
    raise NotImplementedError
