"""`status.rollout`: where a change of revision is, and everything that decides how it goes on.

Nothing about a rollout is kept anywhere else: an operator that is killed goes on from here.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from modelserver_operator.apis.rollout import Percent, Strategy
from modelserver_operator.apis.status_types import (
    Count,
    Sentence,
    Short,
    StatusModel,
    Timestamp,
)
from modelserver_operator.apis.types import LIST_ATOMIC, list_map

MOST_FAILED_REVISIONS = 10
MOST_SOURCES = 8  # of counts, of each revision: a sample is enough, and the status stays small
Decimals = Annotated[str, StringConstraints(max_length=24)]
Counted = Annotated[str, StringConstraints(max_length=128)]


class RolloutPhase(StrEnum):
    STARTING = "Starting"
    PREPARING = "Preparing"
    PREFLIGHT = "Preflight"
    SHADOWING = "Shadowing"
    STEPPING = "Stepping"
    ANALYZING = "Analyzing"
    DRAINING = "Draining"
    SWAPPING = "Swapping"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    SETTLING = "Settling"
    SUCCEEDED = "Succeeded"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


class GateOutcome(StrEnum):
    PASSING = "Passing"
    FAILING = "Failing"
    UNDECIDED = "Undecided"


class Weights(StatusModel):
    intended: Percent = 0
    """How much of the traffic the route shall give to the new revision."""
    confirmed: Percent = 0
    """The most that it may be getting while the routers have not all said what is intended; the
    same as `intended` since they have."""
    confirmed_at: Timestamp | None = None
    """Since when every router says what is intended; absent until then."""
    observed_percent: Decimals = ""
    """The share of the requests counted since then that the new revision answered."""


class Holding(StatusModel):
    reason: Short
    """What is missing, in one word."""
    message: Sentence
    """What is waited for."""
    since: Timestamp
    """Since when."""


class Paused(StatusModel):
    by: Short
    """`command`, `spec`, `suspend`, `deadline` or `failure`."""
    since: Timestamp
    """Since when."""


class GateStatus(StatusModel):
    name: Short
    """errors, latency, timeToFirstToken, interTokenTime or disagreement."""
    outcome: GateOutcome = GateOutcome.UNDECIDED
    """Failing rolls back. Undecided is no evidence against it, and not enough for it."""
    requests: Count = 0
    """Of the new revision, counted so far."""
    bad: Count = 0
    """How many of them were."""
    stable_requests: Count = 0
    """Of the stable revision in the same time."""
    stable_bad: Count = 0
    """How many of them were."""
    step_requests: Count = 0
    """Of the new revision since the step began."""
    ticks: Count = 0
    """How often requests of both revisions were compared."""
    bad_ticks: Count = 0
    """How often the new revision had a bad one among them."""
    waiting: Annotated[tuple[Count, ...], Field(max_length=4, json_schema_extra=LIST_ATOMIC)] = ()
    """Counted and not compared yet, because the other revision had no request: of the new revision
    requests and bad ones, of the stable revision the same. Absent if there are none."""
    dispersion: float = 1.0
    """How many requests are bad together, by what the stable revision's counts say."""
    dispersion_pairs: Count = 0
    """Over how many of its ticks that is a mean."""
    last_stable: Annotated[
        tuple[Count, ...], Field(max_length=2, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Requests and bad ones of its last tick, with which the next is compared."""
    log_ratios: Annotated[
        tuple[float, ...], Field(max_length=16, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Evidence for each of the rates that the test knows, as natural logarithms."""
    message: Sentence = ""
    """The evidence in numbers, and what can be detected with them."""


class Edges(StatusModel):
    """From where a time counts as slow, in milliseconds; the same for the whole rollout."""

    latency: Count = 0
    """From the request to the end of its answer."""
    first_token: Count = 0
    """From the request to the first token."""
    token_gap: Count = 0
    """From a token to the next."""


class RevisionMetrics(StatusModel):
    revision: Short
    """Its name."""
    requests: Count = 0
    """That it answered since the rollout began to count."""
    errors_percent: Decimals = ""
    """How many of them failed."""
    slow_percent: Decimals = ""
    """How many took longer than `edges.latency`."""
    slow_first_percent: Decimals = ""
    """How many streams began later than `edges.firstToken`."""
    slow_gap_percent: Decimals = ""
    """How many tokens came later than `edges.tokenGap`."""


class PreflightOutcome(StatusModel):
    passed: Count = 0
    """Cases whose answer was as expected."""
    failed: Count = 0
    """Cases whose answer was not."""
    message: Sentence = ""
    """What the first failed case expected and got."""


class Decision(StatusModel):
    at: Timestamp
    """When."""
    verdict: Short
    """What was decided, in one word."""
    message: Sentence = ""
    """Why."""


class FailedRevision(StatusModel):
    revision: Short
    """Its name. It is not tried again without the command `retry`."""
    reason: Short
    """Why it failed, in one word."""
    at: Timestamp
    """When."""
    evidence: Sentence = ""
    """The numbers, or what its pods said."""


class CommandResult(StrEnum):
    DONE = "Done"
    REFUSED = "Refused"


class LastCommand(StatusModel):
    token: Short
    """The whole annotation, so that it is done once."""
    result: CommandResult
    """Done or Refused."""
    message: Sentence = ""
    """What it did, or why it was not done."""


class RolledBackTo(StatusModel):
    revision: Short
    """What is wanted by the command `rollback-to`."""
    instead_of: Short
    """What the spec asked for then. The command holds until the spec asks for something else."""


class Rollout(StatusModel):
    id: Short = ""
    """Generation and new revision: it stamps everything that belongs to this change."""
    from_: Annotated[Short, Field(alias="from")] = ""
    """The revision that serves, or served, before."""
    to: Short = ""
    """The revision that takes over."""
    strategy: Strategy | None = None
    """How; what `Auto` meant when it began. Absent for `Rolling`."""
    phase: RolloutPhase
    """`Starting`, `Preparing`: the new revision's pods are starting, the old one serves.
    `Preflight`: questions with known answers are asked. `Shadowing`: requests are copied to it.
    `Stepping`: its pods and the route are made ready for the next weight. `Analyzing`: the weight
    is held and the answers are compared. `Draining`, `Swapping`: where there is no room for both,
    the old pods end, then the new ones start. `Promoting`: it takes over in full. `Baking`: it
    serves, the old pods are kept. `Settling`: the old pods are about to drain. `Succeeded`.
    `RollingBack`: traffic goes back. `RolledBack`: the old revision serves, the new one failed."""
    start_time: Timestamp
    """When it began."""
    phase_since: Timestamp | None = None
    """Since when the phase lasts."""
    phase_deadline: Timestamp | None = None
    """Until when the phase may wait."""
    deadline: Timestamp | None = None
    """Until when all of it may last; it moves on while it is paused."""
    step_index: Count = 0
    """The step that is entered or held, from 0."""
    step_entered_at: Timestamp | None = None
    """Since when the step's weight is held, as the routers confirmed it."""
    step_stable_requests: Count = 0
    """Requests of the stable revision since the step began."""
    weights: Weights = Weights()
    """What the route says."""
    mirror_percent: Percent = 0
    """How many requests are copied to the new revision."""
    is_holding_requests: bool = False
    """Requests wait at the router until pods are ready."""
    is_restoring: bool = False
    """The old revision's pods start again, after the new one's are gone."""
    routed_at: Timestamp | None = None
    """Since when the Service leads to the built-in router; absent where it leads to pods."""
    settling_since: Timestamp | None = None
    """Since when nothing is sent any more to the pods that are about to go."""
    unready_since: Timestamp | None = None
    """Since when no pod of the new revision, which has all traffic, is ready."""
    holding: Holding | None = None
    """Why it does not go on, if so. Nothing is wrong with the new revision as far as is known."""
    paused: Paused | None = None
    """Who has stopped it, if somebody has. A revision that fails is rolled back nevertheless."""
    is_approved: bool = False
    """The last step may be entered, by command."""
    is_promoted: bool = False
    """All steps may be entered without evidence, by command."""
    reason: Short = ""
    """Why it goes or went back."""
    evidence: Sentence = ""
    """The numbers of that."""
    spec: dict[str, Any] | None = None
    """`spec.rollout` as it was when this began, without defaults, queries and webhooks."""
    route_version: Short = ""
    """The route that was confirmed last."""
    edges: Edges | None = None
    """From where a time counts as slow."""
    counted_at: Timestamp | None = None
    """When requests were counted last."""
    gates: Annotated[
        tuple[GateStatus, ...], Field(max_length=8, json_schema_extra=list_map("name"))
    ] = ()
    """What decides, with its evidence."""
    readings: Annotated[
        tuple[Counted, ...],
        Field(max_length=2 * MOST_SOURCES, json_schema_extra=LIST_ATOMIC),
    ] = ()
    """From where the next requests are counted, as `source/revision/counts`: the beginning of a
    pod's uid, whose requests it counted, and what it had counted when it was asked last: requests,
    errors, slow ones, streams, late first tokens, times between tokens, long ones. Zeros at the end
    are left out."""
    copies: Annotated[
        tuple[Counted, ...],
        Field(max_length=2 * MOST_SOURCES, json_schema_extra=LIST_ATOMIC),
    ] = ()
    """The same of compared answers: pairs and those that disagreed, of both revisions under the
    name of the new one, of the stable revision with itself under its own."""
    comparison: Annotated[
        tuple[RevisionMetrics, ...], Field(max_length=2, json_schema_extra=list_map("revision"))
    ] = ()
    """Both revisions side by side."""
    preflight: PreflightOutcome | None = None
    """What became of the questions with known answers."""
    last_decision: Decision | None = None
    """What was decided last, and why."""
    message: Sentence = ""
    """Where it is, in a sentence."""

    @property
    def is_decided_by_evidence(self) -> bool:
        """Whether the state machine leads it, and not the rule for `Rolling`."""
        return self.strategy is not None and self.strategy is not Strategy.ROLLING

    @property
    def is_over(self) -> bool:
        return self.phase in {RolloutPhase.SUCCEEDED, RolloutPhase.ROLLED_BACK}
