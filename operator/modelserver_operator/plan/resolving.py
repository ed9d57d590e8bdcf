"""Which revision the spec asks for: found among what is pinned, or pinned now."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelserver_operator.apis.model import COMMIT
from modelserver_operator.apis.runtime import Engine
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import (
    children_of_kind,
    condition,
    container_status,
    is_going,
    is_true,
    key_of,
    parse_time,
)
from modelserver_operator.plan.values import Manifest, Observed, Resolution, ResolutionState
from modelserver_operator.resources.containers import RESOLVE, SERVER, does_fetch
from modelserver_operator.resources.kinds import CONTROLLER_REVISION, DEPLOYMENT
from modelserver_operator.resources.resolve_job import make_resolve_job
from modelserver_operator.resources.revision import (
    Pins,
    Revision,
    ServedSpec,
    needs_runtime_image,
    revision_from_data,
)

# A finished Job whose pod we do not see: its last message may be a moment behind.
ANSWER_PATIENCE_SECONDS = 30
# A Job that has failed for good (after a day of the kubelet's own retries) is made anew.
JOB_RETRY_SECONDS = 60

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The revision that the spec asks for, or what is done to find it."""

    resolution: Resolution
    revision: Revision | None = None
    job: Manifest | None = None  # wanted as long as its answer is not kept elsewhere
    is_job_spent: bool = False  # it has ended without an answer: to be removed and made anew
    wait_seconds: float | None = None


def find_target(
    server: ModelServer, observed: Observed, config: OperatorConfig, now: datetime
) -> Target:
    model = server.spec.model
    files = [one.uri for one in (model, *server.spec.extra_models) if one.is_file]
    if files and not config.allow_file_models:
        return Target(resolution=_refused_file(files[0]))
    served = ServedSpec.of(server.spec)
    if (known := known_revision(server, served, observed, config)) is not None:
        return _resolved(known)
    if not model.is_from_hub or COMMIT.fullmatch(model.revision):
        return _resolved(_pinned(served, config, commit=model.revision))
    if server.spec.suspend:
        return Target(resolution=_waiting("Suspended", "the model is resolved when it resumes"))
    return _ask(server, served, observed, config, now)


def _refused_file(uri: str) -> Resolution:
    return Resolution(
        state=ResolutionState.REFUSED,
        reason="FileModelsNotAllowed",
        message=f"{uri} is a folder inside the runtime's image, which this operator does not allow",
    )


def _waiting(reason: str, message: str) -> Resolution:
    return Resolution(state=ResolutionState.RESOLVING, reason=reason, message=message)


def _resolved(revision: Revision) -> Target:
    state = ResolutionState.RESOLVED
    resolution = Resolution(state=state, commit=revision.commit)
    return Target(resolution=resolution, revision=revision)


def _pinned(served: ServedSpec, config: OperatorConfig, *, commit: str) -> Revision:
    pins = Pins(
        runtime_image=config.runtime_image if needs_runtime_image(served) else "",
        hub_endpoint=config.hub_endpoint if served.is_fetched else "",
        commit=commit,
    )
    return Revision(served=served, pins=pins)


def known_revision(
    server: ModelServer, served: ServedSpec, observed: Observed, config: OperatorConfig
) -> Revision | None:
    """The revision that was pinned for this spec before.

    Its ControllerRevision says so; if that was deleted by hand, its Deployment does, and last the
    status. The revision's name is a hash of all of it, so that nothing else can come back.
    """
    candidates = (
        *_from_controller_revisions(served, observed),
        *_from_deployments(served, observed),
        *_from_status(server, served, config),
    )
    return next(iter(candidates), None)


def _from_controller_revisions(served: ServedSpec, observed: Observed) -> Iterator[Revision]:
    stored = children_of_kind(observed, CONTROLLER_REVISION.kind)
    for manifest in sorted(stored, key=lambda one: -int(one.get("revision", 0))):
        revision = revision_from_data(manifest.get("data") or {})
        if revision is not None and revision.served.hash == served.hash:
            yield revision


def _from_deployments(served: ServedSpec, observed: Observed) -> Iterator[Revision]:
    for deployment in children_of_kind(observed, DEPLOYMENT.kind):
        revision = Revision(served=served, pins=_pins_in(deployment, served))
        if deployment["metadata"]["name"].endswith(f"-{revision.name}"):
            yield revision


def _pins_in(deployment: Manifest, served: ServedSpec) -> Pins:
    containers = _containers(deployment)
    server = containers.get(SERVER, {})
    fetch = next((one for name, one in containers.items() if does_fetch(name)), {})
    runs_runtime = fetch if served.engine is Engine.CUSTOM else server
    return Pins(
        runtime_image=runs_runtime.get("image", "") if needs_runtime_image(served) else "",
        hub_endpoint=_variable(fetch, "MODELSERVER_HUB_ENDPOINT"),
        commit=_variable(server, "MODELSERVER_MODEL_REVISION"),
    )


def _containers(deployment: Manifest) -> dict[str, Manifest]:
    spec = deployment.get("spec", {}).get("template", {}).get("spec", {})
    both = [*spec.get("initContainers", []), *spec.get("containers", [])]
    return {container["name"]: container for container in both}


def _variable(container: Manifest, name: str) -> str:
    variables = container.get("env", [])
    return next((v.get("value", "") for v in variables if v["name"] == name), "")


def _from_status(
    server: ModelServer, served: ServedSpec, config: OperatorConfig
) -> Iterator[Revision]:
    effective, artifact = server.status.effective, server.status.artifact
    if effective is None or artifact is None:
        return
    pins = Pins(
        runtime_image=effective.image if needs_runtime_image(served) else "",
        hub_endpoint=config.hub_endpoint if served.is_fetched else "",
        commit=artifact.resolved_revision,
    )
    revision = Revision(served=served, pins=pins)
    if revision.name == server.status.target_revision:
        yield revision


def _ask(
    server: ModelServer,
    served: ServedSpec,
    observed: Observed,
    config: OperatorConfig,
    now: datetime,
) -> Target:
    """By a Job, whose pod answers in its termination message."""
    image = _resolving_image(served, config)
    job = make_resolve_job(server, image=image, hub_endpoint=config.hub_endpoint)
    if commit := answer_of(job, observed):
        revision = _pinned(served, config, commit=commit)
        resolution = Resolution(state=ResolutionState.RESOLVED, commit=commit)
        return Target(resolution=resolution, revision=revision, job=job)
    name = server.spec.model.revision or "main"
    asking = _waiting("Resolving", f"asking the hub which commit {name} is")
    wait = _wait_for(observed.children.get(key_of(job)), now)
    spent = wait is not None and wait <= 0
    return Target(resolution=asking, job=job, is_job_spent=spent, wait_seconds=wait)


def _resolving_image(served: ServedSpec, config: OperatorConfig) -> str:
    is_ours = served.engine is Engine.TRANSFORMERS and served.runtime.image
    return served.runtime.image if is_ours else config.runtime_image


def answer_of(job: Manifest, observed: Observed) -> str:
    """The commit in the termination message of the Job's pod; empty while there is none."""
    name = job["metadata"]["name"]
    for pod in observed.pods:
        if pod["metadata"].get("labels", {}).get(JOB_NAME_LABEL) != name:
            continue
        ended = container_status(pod, RESOLVE).get("state", {}).get("terminated") or {}
        if ended.get("exitCode") == 0 and (commit := _commit_in(ended.get("message", ""))):
            return commit
    return ""


def _commit_in(message: str) -> str:
    try:
        revision = str(json.loads(message)["revision"])
    except (ValueError, TypeError, KeyError):
        return ""
    return revision if COMMIT.fullmatch(revision) else ""


def _wait_for(job: Manifest | None, now: datetime) -> float | None:
    """Seconds until a Job that ended without an answer is made anew; None if it has not ended."""
    if job is None or is_going(job):
        return None
    for kind, patience in (("Complete", ANSWER_PATIENCE_SECONDS), ("Failed", JOB_RETRY_SECONDS)):
        if is_true(job, kind):
            ended = parse_time(condition(job, kind)["lastTransitionTime"])
            return (ended + timedelta(seconds=patience) - now).total_seconds()
    return None
