"""Checks of containers that ended and of pods that were evicted."""

import re
import signal
from collections.abc import Iterator, Mapping

from modelserver_operator.apis.runtime import Engine
from modelserver_operator.apis.status import Diagnosis
from modelserver_operator.resources.containers import RESOLVE, SERVER, does_fetch
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.codes import EXIT_CODES, Code
from modelserver_operator.status.diagnosis.containers import ContainerState, Ended
from modelserver_operator.status.diagnosis.evidence import Evidence
from modelserver_operator.status.diagnosis.finding import finding
from modelserver_operator.status.diagnosis.hints import hint_of
from modelserver_operator.status.wording import clean, last_part

_OUT_OF_MEMORY = "OOMKilled"
_OF_SIGNALS = 128  # a shell's and the kubelet's exit code of signal n is 128 + n
_KILLED = _OF_SIGNALS + signal.SIGKILL
_STOPPED = frozenset({0, _OF_SIGNALS + signal.SIGTERM, _KILLED})
_NO_SPACE = re.compile(r"\bENOSPC\b|No space left on device|Disk quota exceeded")
_OUT_OF_STORAGE = re.compile(
    r"ephemeral[- ](local )?storage|EmptyDir volume|disk|inodes", re.IGNORECASE
)
_OUT_OF_NODE_MEMORY = re.compile(r"low on resource: memory")
_CODES_SAID: Mapping[str, Code] = {code.value: code for code in EXIT_CODES.values()}
# The end of a log that explains a crash; what is longer is in `kubectl logs`.
_LONGEST_LAST_WORDS = 640


def evicted(evidence: Evidence) -> Diagnosis | None:
    for pod in evidence.pods:
        status = pods.status_of(pod)
        if status.get("reason") != "Evicted":
            continue
        cause = clean(str(status.get("message", "")))
        for pattern, code in _EVICTIONS.items():
            if pattern.search(cause):
                return finding(code, f"The node evicted the pod: {cause}", _after_eviction(code))
    return None


_EVICTIONS: Mapping[re.Pattern[str], Code] = {
    _OUT_OF_NODE_MEMORY: Code.OUT_OF_MEMORY,
    _OUT_OF_STORAGE: Code.DISK_FULL,
}


def _after_eviction(code: Code) -> str:
    resource = "memory" if code is Code.OUT_OF_MEMORY else "ephemeral-storage"
    return (
        f"Request as much {resource} as the model needs in spec.resources.requests.{resource}, so"
        " that the pod gets a node with enough of it; raise spec.resources.limits if it has one."
    )


def ended(evidence: Evidence) -> Diagnosis | None:
    """The first container, in the order in which they start, that ended and should not have."""
    for container, end in _ends(evidence):
        return _diagnosis(evidence, container, end)
    return None


def _ends(evidence: Evidence) -> Iterator[tuple[ContainerState, Ended]]:
    for container in evidence.containers():
        if container.ended is not None:
            yield container, container.ended


def _diagnosis(evidence: Evidence, container: ContainerState, end: Ended) -> Diagnosis:
    code = _code_of(evidence, container, end)
    hint = hint_of(code, evidence.server, container)
    return finding(code, _in_words(code, container, end), clean(end.said.hint), hint)


def _code_of(evidence: Evidence, container: ContainerState, end: Ended) -> Code:
    """What it said, then what the kubelet says, then its exit code, then its last words."""
    if end.said.code in _CODES_SAID:
        return _CODES_SAID[end.said.code]
    if end.reason == _OUT_OF_MEMORY:
        return Code.OUT_OF_MEMORY
    if _was_too_slow(container, end):
        return Code.LOAD_TIMEOUT
    if _speaks_our_codes(evidence, container) and end.exit_code in EXIT_CODES:
        return EXIT_CODES[end.exit_code]
    if end.exit_code == _KILLED:
        return Code.OUT_OF_MEMORY
    return Code.DISK_FULL if _NO_SPACE.search(end.text) else Code.RUNTIME_CRASH


def _speaks_our_codes(evidence: Evidence, container: ContainerState) -> bool:
    """An image of somebody else may use any code for anything."""
    is_custom = evidence.server.spec.engine is Engine.CUSTOM
    is_ours = container.name == RESOLVE or does_fetch(container.name)
    return is_ours or (container.name == SERVER and not is_custom)


def _was_too_slow(container: ContainerState, end: Ended) -> bool:
    """It was stopped from outside just when the startup probe's patience was over."""
    budget = _startup_budget(container)
    if budget is None or end.seconds is None or end.exit_code not in _STOPPED:
        return False
    period = int(container.spec["startupProbe"].get("periodSeconds", 10))
    latest = budget + 2 * period + container.grace_seconds
    return budget - period <= end.seconds <= latest


def _startup_budget(container: ContainerState) -> int | None:
    """Defaults are those of Kubernetes: 3 failures, every 10 s."""
    probe = container.spec.get("startupProbe")
    if probe is None:
        return None
    failures, period = probe.get("failureThreshold", 3), probe.get("periodSeconds", 10)
    return int(probe.get("initialDelaySeconds", 0)) + int(failures) * int(period)


def _in_words(code: Code, container: ContainerState, end: Ended) -> str:
    who = f"Container {container.name}"
    if end.said.code and end.said.message:
        return f"{who} ended with {_exit_in_words(end)}: {clean(end.said.message)}"
    if code is Code.OUT_OF_MEMORY:
        limit = ((container.spec.get("resources") or {}).get("limits") or {}).get("memory")
        allowed = f"its limit of {limit}" if limit else "what the node has; it has no limit"
        killed = f"{who} was killed (exit code {end.exit_code})"
        return f"{killed} because it needed more memory than {allowed}"
    if code is Code.LOAD_TIMEOUT:
        return _slow_in_words(who, container, end)
    words = last_part(clean(end.text), _LONGEST_LAST_WORDS)
    last = f"; its last words: {words}" if words else ""
    return f"{who} ended with {_exit_in_words(end)}{last}"


def _slow_in_words(who: str, container: ContainerState, end: Ended) -> str:
    budget = _startup_budget(container)
    allowed = f"; its startup probe allows {budget} s" if budget is not None else ""
    took = f"after {end.seconds:.0f} s " if end.seconds is not None else ""
    return f"{who} was stopped {took}because it was not ready to serve{allowed}"


def _exit_in_words(end: Ended) -> str:
    number = end.exit_code - _OF_SIGNALS
    if number in set(signal.Signals):
        return f"exit code {end.exit_code} ({signal.Signals(number).name})"
    if end.exit_code == 0:
        return "exit code 0, though it should have gone on"
    return f"exit code {end.exit_code}"


def deadline_exceeded(evidence: Evidence) -> Diagnosis | None:
    """Nothing is known to be wrong, but no pod became ready while the Deployment waited."""
    if evidence.deployment is None or evidence.has_progress:
        return None
    progressing = pods.condition_of(evidence.deployment, "Progressing")
    if progressing.get("reason") != "ProgressDeadlineExceeded":
        return None
    name = pods.name_of(evidence.deployment)
    seconds = evidence.deployment.get("spec", {}).get("progressDeadlineSeconds", 600)
    return finding(
        Code.LOAD_TIMEOUT,
        f"No further pod of {name} became ready within {seconds} s",
        f"See what they wait for: kubectl describe pods -n {evidence.server.namespace} -l"
        f" modelserver.dev/server={evidence.server.name}.",
    )
