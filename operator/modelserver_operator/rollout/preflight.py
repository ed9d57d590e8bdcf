"""What the preflight's Job says: an answer, or why there is none."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelserver_operator.apis.rollout_status import PreflightOutcome

# A Job that ended without an answer is made anew after this: its node went, its image was missing.
RETRY = timedelta(seconds=60)
# A finished Job whose pod we do not see as finished yet: its last message may be a moment behind.
PATIENCE = timedelta(seconds=30)

_LONGEST_MESSAGE = 400
# What a kubelet says of a container that it cannot start, and that may take long to pass.
_STUCK = {
    *("CreateContainerConfigError", "CreateContainerError", "InvalidImageName"),
    *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"),
}

type Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightSeen:
    """`failure` says why there is no `outcome`, if something is wrong.

    A Job that `is_spent` has ended without an answer and is to be deleted, so that it is made anew;
    `wait_seconds` is when that will be so.
    """

    outcome: PreflightOutcome | None = None
    failure: str = ""
    is_spent: bool = False
    wait_seconds: float | None = None


def read_preflight(job: Manifest | None, pods: Iterable[Manifest], now: datetime) -> PreflightSeen:
    """`pods` may be all of the server's."""
    if job is None:
        return PreflightSeen()
    own = [pod for pod in pods if _is_of(pod, job)]
    endings = [ended for pod in own if (ended := _ended(pod))]
    if outcome := next(filter(None, map(_outcome_in, endings)), None):
        return PreflightSeen(outcome=outcome)
    finished = _finished(job)
    if finished is None:
        return PreflightSeen(failure=next(filter(None, map(_what_keeps, own)), ""))
    return _unanswered(finished, endings, now)


def _unanswered(finished: Manifest, endings: list[Manifest], now: datetime) -> PreflightSeen:
    since = now - datetime.fromisoformat(finished["lastTransitionTime"])
    if not endings and since < PATIENCE:
        return PreflightSeen(wait_seconds=(PATIENCE - since).total_seconds())
    sentence = next(map(_sentence_in, endings), "") or _why(finished)
    left = (RETRY - since).total_seconds()
    return PreflightSeen(
        failure=_cut(sentence), is_spent=left <= 0, wait_seconds=left if left > 0 else None
    )


def _is_of(pod: Manifest, job: Manifest) -> bool:
    owners = pod["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == job["metadata"].get("uid") for owner in owners)


def _state(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    state: Manifest = statuses[0].get("state", {}) if statuses else {}
    return state


def _ended(pod: Manifest) -> Manifest:
    return _state(pod).get("terminated") or {}


def _finished(job: Manifest) -> Manifest | None:
    conditions = job.get("status", {}).get("conditions") or []
    ends = (one for one in conditions if one.get("type") in {"Complete", "Failed"})
    return next((one for one in ends if one.get("status") == "True"), None)


def _said(ended: Manifest) -> Manifest:
    """The JSON that our program leaves; nothing where it was killed and left log lines."""
    try:
        said = json.loads(ended.get("message") or "")
    except ValueError:
        return {}
    return said if isinstance(said, Mapping) else {}


def _outcome_in(ended: Manifest) -> PreflightOutcome | None:
    said = _said(ended)
    passed, failed = said.get("passed"), said.get("failed")
    if not isinstance(passed, int) or not isinstance(failed, int) or passed + failed < 1:
        return None
    return PreflightOutcome(passed=passed, failed=failed, message=_cut(_first_failure(said)))


def _first_failure(said: Manifest) -> str:
    failures = said.get("failures")
    if not isinstance(failures, list) or not failures or not isinstance(failures[0], Mapping):
        return ""
    return f"{failures[0].get('name')}: {failures[0].get('message')}"


def _sentence_in(ended: Manifest) -> str:
    if message := _said(ended).get("message"):
        return str(message)
    reason = ended.get("reason") or "an error"
    return f"it ended with {reason} (exit code {ended.get('exitCode')})"


def _why(finished: Manifest) -> str:
    reason = finished.get("reason") or finished["type"]
    return f"its pod is gone ({reason}: {finished.get('message') or 'without a message'})"


def _what_keeps(pod: Manifest) -> str:
    waiting = _state(pod).get("waiting") or {}
    if waiting.get("reason") in _STUCK:
        return _cut(f"{waiting['reason']}: {waiting.get('message') or 'without a message'}")
    conditions = pod.get("status", {}).get("conditions") or []
    unplaced = (one for one in conditions if one.get("reason") == "Unschedulable")
    return next((_cut(f"no node has room for it: {one.get('message')}") for one in unplaced), "")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
