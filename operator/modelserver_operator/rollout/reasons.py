"""Why a run waits, or goes back: one word for machines beside the sentence for people."""

from enum import StrEnum

from modelserver_operator.rollout.gates import GateName

_LONGEST = 400  # of a sentence in the status, as its type says
_LONGEST_EVIDENCE = 200  # of a failed revision: ten of them are kept


class Waiting(StrEnum):
    """Nothing is known to be wrong with the new revision, and no decision is possible."""

    NO_CAPACITY = "NoCapacity"
    ROUTER_NOT_READY = "RouterNotReady"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    ROUTE_NOT_CONFIRMED = "RouteNotConfirmed"
    PREFLIGHT_UNANSWERED = "PreflightUnanswered"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    TOO_FEW_REQUESTS = "TooFewRequests"
    EVIDENCE_UNCLEAR = "EvidenceUnclear"
    CHECK_UNANSWERED = "CheckUnanswered"
    CHECK_FAILING = "CheckFailing"
    STABLE_NOT_READY = "StableNotReady"
    PODS_NOT_READY = "PodsNotReady"
    AWAITING_APPROVAL = "AwaitingApproval"


class Back(StrEnum):
    """Why traffic goes back. The first two are no fault of the new revision."""

    REVERTED = "Reverted"
    SUPERSEDED = "Superseded"
    ABORTED = "Aborted"
    PODS_FAILING = "PodsFailing"
    PODS_NOT_READY = "PodsNotReady"
    PREFLIGHT_FAILED = "PreflightFailed"
    ERROR_RATE = "ErrorRate"
    LATENCY = "Latency"
    FIRST_TOKEN = "TimeToFirstToken"  # noqa: S105  of text
    TOKEN_GAPS = "InterTokenTime"  # noqa: S105  of text
    DISAGREEMENT = "Disagreement"
    CHECK_FAILED = "CheckFailed"
    TIMEOUT = "Timeout"


BLAMELESS = frozenset({Back.REVERTED, Back.SUPERSEDED})

BACK_BY_GATE = {
    GateName.ERRORS: Back.ERROR_RATE,
    GateName.MAX_ERRORS: Back.ERROR_RATE,
    GateName.LATENCY: Back.LATENCY,
    GateName.FIRST_TOKEN: Back.FIRST_TOKEN,
    GateName.TOKEN_GAPS: Back.TOKEN_GAPS,
    GateName.SHADOW: Back.DISAGREEMENT,
}


class PausedBy(StrEnum):
    COMMAND = "command"
    SPEC = "spec"
    SUSPEND = "suspend"
    DEADLINE = "deadline"
    FAILURE = "failure"


def shortened(sentence: str) -> str:
    """As much as a status takes."""
    return _cut(sentence, _LONGEST)


def as_evidence(sentence: str) -> str:
    return _cut(sentence, _LONGEST_EVIDENCE)


def _cut(sentence: str, length: int) -> str:
    return sentence if len(sentence) <= length else f"{sentence[: length - 1]}…"
