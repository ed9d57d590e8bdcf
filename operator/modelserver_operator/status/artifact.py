"""How far the model's files are, from what the pods said about them."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from modelserver_operator.apis.model import HUB
from modelserver_operator.apis.status import Artifact, ArtifactPhase
from modelserver_operator.plan.values import Manifest, PodProgress, ResolutionState
from modelserver_operator.resources.containers import FETCH, RESOLVE, SERVER, does_fetch
from modelserver_operator.status import pods
from modelserver_operator.status.diagnosis.containers import report_in
from modelserver_operator.status.situation import Situation
from modelserver_operator.status.wording import size_in_words

# Status is written at most twenty times per download.
PERCENT_STEP = 5
WHOLE = 100
# (below so many seconds, in steps of so many)
_ETA_STEPS = ((60, 5), (600, 30))
_LONG_ETA_STEP = 60

# What pods say is not trusted to be within what the API can hold.
_MOST_BYTES = 2**63 - 1
_LONGEST_ETA_SECONDS = 366 * 24 * 3600

_PHASES = {
    "Fetching": ArtifactPhase.FETCHING,
    "Loading": ArtifactPhase.LOADING,
    "WarmingUp": ArtifactPhase.LOADING,
    "Ready": ArtifactPhase.LOADING,  # it serves, but Kubernetes does not know yet
}
_ORDER = (ArtifactPhase.FETCHING, ArtifactPhase.LOADING, ArtifactPhase.READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PodState:
    phase: ArtifactPhase
    progress: PodProgress | None  # while it fetches
    size_bytes: int | None  # once it has fetched

    @property
    def rank(self) -> tuple[int, int, float]:
        fetched = self.progress.percent if self.progress else -1.0
        return _ORDER.index(self.phase), -1 if self.size_bytes is None else 0, fetched


def artifact_of(situation: Situation) -> Artifact:
    """Of the pod with these files that is furthest."""
    uri = situation.server.spec.model.uri
    resolution = situation.plan.resolution
    if resolution.state is not ResolutionState.RESOLVED:
        is_waiting = resolution.state is ResolutionState.RESOLVING and not situation.is_suspended
        return Artifact(uri=uri, phase=ArtifactPhase.RESOLVING if is_waiting else None)
    last = _last_known(situation)
    states = tuple(_pod_states(situation))
    if not states:
        size = _resolved_size(situation) if last.size_bytes is None else last.size_bytes
        return Artifact(uri=uri, resolved_revision=resolution.commit, size_bytes=size)
    return _described(situation, max(states, key=lambda state: state.rank), last)


def _last_known(situation: Situation) -> Artifact:
    """What the stored status says of the same files; nothing if it is about others."""
    same = Artifact(
        uri=situation.server.spec.model.uri, resolved_revision=situation.plan.resolution.commit
    )
    stored = situation.server.status.artifact
    if stored is None:
        return same
    is_same = (stored.uri, stored.resolved_revision) == (same.uri, same.resolved_revision)
    return stored if is_same else same


def _pod_states(situation: Situation) -> Iterator[_PodState]:
    for pod in situation.asked_pods:
        if pods.is_alive(pod) and (phase := _phase_of(situation, pod)) is not None:
            yield _PodState(
                phase=phase,
                progress=_progress_of(situation, pod),
                size_bytes=_size_said_by(pod, FETCH),
            )


def _progress_of(situation: Situation, pod: Manifest) -> PodProgress | None:
    """Nothing while an extra model is fetched: the numbers are about that one then."""
    if _size_said_by(pod, FETCH) is not None:
        return None
    return situation.observed.progress.get(pods.name_of(pod))


def _phase_of(situation: Situation, pod: Manifest) -> ArtifactPhase | None:
    """Of pods that say nothing their containers tell; None where no container has started."""
    if pods.is_ready(pod):
        return ArtifactPhase.READY
    progress = situation.observed.progress.get(pods.name_of(pod))
    if progress is not None and progress.phase in _PHASES:
        return _PHASES[progress.phase]
    if _has_begun(pod, SERVER):
        return ArtifactPhase.LOADING
    names = [str(one["name"]) for one in pod["spec"].get("initContainers") or ()]
    begun = any(_has_begun(pod, name) for name in names if does_fetch(name))
    return ArtifactPhase.FETCHING if begun else None


def _has_begun(pod: Manifest, container: str) -> bool:
    status = pods.container_status(pod, container)
    states = status.get("state") or {}
    return "running" in states or "terminated" in states or bool(status.get("restartCount"))


def _size_said_by(pod: Manifest, container: str) -> int | None:
    ended = (pods.container_status(pod, container).get("state") or {}).get("terminated") or {}
    if ended.get("exitCode") != 0:
        return None
    size = report_in(str(ended.get("message") or "")).get("sizeBytes")
    if not isinstance(size, int) or isinstance(size, bool):
        return None
    return size if 0 <= size <= _MOST_BYTES else None


def _resolved_size(situation: Situation) -> int | None:
    sizes = (_size_said_by(pod, RESOLVE) for pod in situation.observed.pods)
    return next((size for size in sizes if size is not None), None)


def _described(situation: Situation, furthest: _PodState, last: Artifact) -> Artifact:
    about = {"uri": last.uri, "resolved_revision": last.resolved_revision, "phase": furthest.phase}
    if not situation.server.spec.model.is_from_hub:
        return Artifact.model_validate(about)
    if furthest.phase is not ArtifactPhase.FETCHING or furthest.size_bytes is not None:
        size = furthest.size_bytes if furthest.size_bytes is not None else last.size_bytes
        done = {"size_bytes": size, "downloaded_bytes": size, "download_percent": WHOLE}
        return Artifact.model_validate(about | done)
    return Artifact.model_validate(about | _download(furthest.progress, last))


def _download(progress: PodProgress | None, last: Artifact) -> dict[str, int | None]:
    """In steps; what a pod does not say this time stays as it said it last."""
    if progress is None:
        is_same_phase = last.phase is ArtifactPhase.FETCHING
        return {
            "size_bytes": last.size_bytes,
            "downloaded_bytes": last.downloaded_bytes if is_same_phase else None,
            "download_percent": last.download_percent if is_same_phase else None,
            "eta_seconds": last.eta_seconds if is_same_phase else None,
        }
    percent = _percent_of(progress)
    size = min(progress.total_bytes, _MOST_BYTES) or last.size_bytes
    return {
        "size_bytes": size,
        "downloaded_bytes": None if size is None else size * percent // WHOLE,
        "download_percent": percent,
        "eta_seconds": _eta(progress, percent, last),
    }


def _percent_of(progress: PodProgress) -> int:
    done, total = progress.done_bytes, progress.total_bytes
    percent = WHOLE * done // total if total else int(progress.percent)
    return min(percent, WHOLE) // PERCENT_STEP * PERCENT_STEP


def _eta(progress: PodProgress, percent: int, last: Artifact) -> int | None:
    """As measured when the step began: a clock in the status would be written all the time."""
    is_same_step = last.phase is ArtifactPhase.FETCHING and last.download_percent == percent
    if is_same_step and last.eta_seconds is not None:
        return last.eta_seconds
    if progress.eta_seconds is None:
        return None
    exact = min(progress.eta_seconds, _LONGEST_ETA_SECONDS)
    step = next((step for below, step in _ETA_STEPS if exact < below), _LONG_ETA_STEP)
    return ceil(exact / step) * step


def progress_in_words(artifact: Artifact, *, has_extra_models: bool) -> str:
    """Empty where there is nothing to say about the files."""
    is_there = not artifact.uri.startswith(HUB) or artifact.download_percent == WHOLE
    match artifact.phase:
        case ArtifactPhase.FETCHING if is_there and has_extra_models:
            return "fetching the extra models"
        case ArtifactPhase.FETCHING:
            return f"fetching {artifact.uri}{_amount_in_words(artifact)}"
        case ArtifactPhase.LOADING:
            return f"loading {artifact.uri}"
        case _:
            return ""


def _amount_in_words(artifact: Artifact) -> str:
    if artifact.download_percent is None:
        return ""
    of_size = f" of {size_in_words(artifact.size_bytes)}" if artifact.size_bytes else ""
    return f": {artifact.download_percent} %{of_size}"
