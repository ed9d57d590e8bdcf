"""`status.experiments`: what answers each of them, and how, beside the stable revision.

Nothing about an experiment is kept anywhere else: an operator that is killed goes on from here.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.rollout_status import MOST_SOURCES, Decimals
from modelserver_operator.apis.status_types import (
    Count,
    Sentence,
    Short,
    StatusModel,
    Timestamp,
)
from modelserver_operator.apis.types import LIST_ATOMIC, list_map

MOST_EXPERIMENTS = 8
# Of each experiment and of the stable revision, from each pod that is asked.
MOST_TRACK_READINGS = (MOST_EXPERIMENTS + 1) * MOST_SOURCES

# A number for each of at most 25 buckets, as `index:count`.
Buckets = Annotated[str, StringConstraints(max_length=512)]
TrackReading = Annotated[str, StringConstraints(max_length=640)]


class ExperimentPhase(StrEnum):
    WAITING = "Waiting"
    STARTING = "Starting"
    RUNNING = "Running"


class Track(StatusModel):
    """What was answered since the experiment began to run, while it ran."""

    requests: Count = 0
    """Answers."""
    errors: Count = 0
    """How many of them were failures of the server, or broke off."""
    errors_percent: Decimals = ""
    """The same as a share."""
    p50_milliseconds: Count | None = None
    """Within this time half of the answers had ended, as far as a histogram can tell. Absent for
    fewer than 20 answers."""
    p90_milliseconds: Count | None = None
    """Within this time nine of ten had."""
    buckets: Buckets = ""
    """The histogram of their times, as `bucket:count`, without empty ones."""


class ExperimentStatus(StatusModel):
    name: Short
    """Its name."""
    revision: Short = ""
    """The revision that answers its requests; empty while it is not known."""
    phase: ExperimentPhase
    """`Waiting`: its requests go where all others go. `Starting`: the route sends them to its
    revision, but not every router has said so. `Running`: every router does."""
    reason: Short = ""
    """Why it waits, in one word."""
    message: Sentence = ""
    """What it waits for, or what to know about it."""
    since: Timestamp | None = None
    """Since when it is counted. The numbers go on where they were after a wait."""
    replicas: Count = 0
    """Pods that are wanted."""
    ready_replicas: Count = 0
    """Pods that are ready."""
    answered: Track = Track()
    """What its revision answered to its requests."""
    stable: Track = Track()
    """What the stable revision answered in the same time, to requests of no experiment."""

    @property
    def is_routed(self) -> bool:
        return self.phase is not ExperimentPhase.WAITING


class LeavingRevision(StatusModel):
    revision: Short
    """Its name."""
    since: Timestamp
    """Since when no experiment sends requests to it."""
    confirmed_at: Timestamp | None = None
    """Since when every router says so."""


class ExperimentTraffic(StatusModel):
    routed_at: Timestamp | None = None
    """Since when the Service leads to the built-in router for the sake of experiments."""
    settling_since: Timestamp | None = None
    """Since when it leads past it; the router's pods are about to go."""
    counted_at: Timestamp | None = None
    """When something new was counted last."""
    leaving: Annotated[
        tuple[LeavingRevision, ...],
        Field(max_length=2 * MOST_EXPERIMENTS, json_schema_extra=list_map("revision")),
    ] = ()
    """Revisions whose pods go when nothing is sent to them any more."""
    readings: Annotated[
        tuple[TrackReading, ...],
        Field(max_length=MOST_TRACK_READINGS, json_schema_extra=LIST_ATOMIC),
    ] = ()
    """From where the next requests are counted, as `source/track/requests/errors/buckets`: the
    beginning of a pod's uid, an experiment or `=` with a revision, and what it had counted."""
