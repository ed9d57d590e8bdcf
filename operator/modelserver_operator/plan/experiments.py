"""The experiments of a spec: which revision each of them is, and which revisions have pods for it.

revision    one that a ControllerRevision keeps
variant     the spec with other settings laid over it, pinned as the spec's own revision is
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from modelserver_operator.apis.model import HUB
from modelserver_operator.apis.traffic import Experiment, Traffic, Variant
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import deployment_of, stored_revisions
from modelserver_operator.plan.resolving import Target
from modelserver_operator.plan.values import Observed, PlannedExperiment
from modelserver_operator.plan.wishes import choice_of
from modelserver_operator.resources.digest import canonical_json
from modelserver_operator.resources.overlay import overlaid
from modelserver_operator.resources.revision import Pins, Revision, ServedSpec, needs_runtime_image
from modelserver_operator.resources.route import RoutedExperiment
from modelserver_operator.resources.router_choice import RouterChoice, experiment_problem

_MOST_NAMED = 5  # revisions in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An experiment with what answers it. Without a revision, or with a problem, it is not run."""

    experiment: Experiment
    revision: Revision | None = None
    reason: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def revision_name(self) -> str:
        return self.revision.name if self.revision is not None else ""

    def planned(self, pods: Mapping[str, int]) -> PlannedExperiment:
        return PlannedExperiment(
            name=self.name,
            revision=self.revision_name,
            replicas=0 if self.problem else pods.get(self.revision_name, 0),
            reason=self.reason,
            problem=self.problem,
        )

    @property
    def routed(self) -> RoutedExperiment:
        return RoutedExperiment(
            name=self.name, revision=self.revision_name, match=self.experiment.match
        )


def experiments_of(
    server: ModelServer, target: Target, observed: Observed, config: OperatorConfig
) -> tuple[Tried, ...]:
    traffic = server.spec.traffic or Traffic()
    if not traffic.experiments:
        return ()
    finder = _Finder(
        server=server,
        target=target,
        known=stored_revisions(observed),
        choice=choice_of(server, observed),
        config=config,
    )
    return tuple(finder.tried(one) for one in traffic.experiments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finder:
    server: ModelServer
    target: Target
    known: Mapping[str, Revision]
    choice: RouterChoice
    config: OperatorConfig

    def tried(self, experiment: Experiment) -> Tried:
        found = self._found(experiment)
        if found.problem or found.revision is None:
            return found
        reason, problem = self._forbidden(experiment, found.revision)
        return Tried(experiment=experiment, revision=found.revision, reason=reason, problem=problem)

    def _found(self, experiment: Experiment) -> Tried:
        if experiment.variant is not None:
            return self._of_variant(experiment, experiment.variant)
        target = self.target.revision
        stored = {**self.known, **({target.name: target} if target is not None else {})}
        revision = stored.get(experiment.revision or "")
        if revision is not None:
            return Tried(experiment=experiment, revision=revision)
        kept = ", ".join(sorted(stored)[:_MOST_NAMED]) or "none"
        problem = (
            f"revision {experiment.revision} must be one that is kept in the history, and is not;"
            f" name one that `modelserver history` shows ({kept}), or give a variant"
        )
        return Tried(experiment=experiment, reason="UnknownRevision", problem=problem)

    def _of_variant(self, experiment: Experiment, variant: Variant) -> Tried:
        base = self._base()
        if base is None:
            problem = "it begins when the revision is known that it differs from"
            return Tried(experiment=experiment, reason="Resolving", problem=problem)
        try:
            revision = revised(base, variant, self.config)
        except ValidationError as failure:
            said = failure.errors(include_url=False, include_input=False)[0]["msg"]
            problem = (
                f"the variant does not fit revision {base.name}, over which it is laid:"
                f" {said.removeprefix('Value error, ')}"
            )
            return Tried(experiment=experiment, reason="InvalidVariant", problem=problem)
        if revision.served.model.is_file and not self.config.allow_file_models:
            problem = (
                f"{revision.served.model.uri} is a folder inside the runtime's image, which this"
                " operator does not allow"
            )
            return Tried(experiment=experiment, reason="FileModelsNotAllowed", problem=problem)
        return Tried(experiment=experiment, revision=revision)

    def _base(self) -> Revision | None:
        """What serves; what the spec asks for takes its place when it serves."""
        serving = self.known.get(self.server.status.serving_revision)
        return serving or self.target.revision

    def _forbidden(self, experiment: Experiment, revision: Revision) -> tuple[str, str]:
        status = self.server.status
        failed = next((o for o in status.failed_revisions if o.revision == revision.name), None)
        if self.server.spec.suspend:
            return "Suspended", "spec.suspend is true: no pods are wanted"
        if failed is not None and revision.name != status.serving_revision:
            return "RevisionFailed", (
                f"revision {revision.name} was rolled back ({failed.reason}); name another one, or"
                " give the command retry"
            )
        return experiment_problem(self.choice, experiment)


def revised(base: Revision, variant: Variant, config: OperatorConfig) -> Revision:
    """Raises ValidationError where the two do not fit together."""
    spec = base.served.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    merged = overlaid(spec, _overlay(variant))
    if variant.resources is not None:
        merged["resources"] = variant.resources.model_dump(mode="json", by_alias=True)
    served = ServedSpec.model_validate_json(canonical_json(merged))
    commit = variant.model.revision if variant.model is not None else None
    image, hub = base.pins.runtime_image, base.pins.hub_endpoint
    pins = Pins(
        runtime_image=(image or config.runtime_image) if needs_runtime_image(served) else "",
        hub_endpoint=(hub or config.hub_endpoint) if served.is_fetched else "",
        commit=(commit or base.commit) if served.model.is_from_hub else "",
    )
    return Revision(served=served, pins=pins)


def _overlay(variant: Variant) -> dict[str, Any]:
    overlay: dict[str, Any] = {}
    if variant.model is not None:
        overlay["model"] = variant.model.model_dump(mode="json", by_alias=True, exclude_none=True)
        if variant.model.uri is not None:
            # What belongs to another place than the hub's is nothing that a claim can take.
            alien = {} if variant.model.uri.startswith(HUB) else {"credentials": None}
            overlay["model"] = {"revision": None, **alien, **overlay["model"]}
    if variant.runtime is not None:
        runtime = variant.runtime.model_dump(mode="json", by_alias=True, exclude_none=True)
        # Nulls stay in them: a value takes the place of a valueFrom with the same name.
        runtime["env"] = [one.model_dump(mode="json", by_alias=True) for one in variant.runtime.env]
        overlay["runtime"] = {
            key: value for key, value in runtime.items() if value != [] or key == "args"
        }
    return overlay


# -- pods ------------------------------------------------------------------------------------------


def wanted_pods(server: ModelServer, tried: Iterable[Tried], observed: Observed) -> dict[str, int]:
    """Pods by revision: of experiments that can be, and of those that may still get requests."""
    wanted: dict[str, int] = {}
    for one in tried:
        if one.revision is not None and not one.problem:
            most = max(wanted.get(one.revision.name, 0), one.experiment.replicas)
            wanted[one.revision.name] = most
    for revision in _still_reached(server):
        found = present_pods(server, revision, observed)
        if found is not None:
            wanted.setdefault(revision, 0 if server.spec.suspend else found)
    return wanted


def _still_reached(server: ModelServer) -> set[str]:
    """By the stored status; `rollout.experiments` lets go of them when every router has."""
    status = server.status
    leaving = status.experiment_traffic.leaving if status.experiment_traffic else ()
    routed = {one.revision for one in status.experiments if one.is_routed}
    return routed | {one.revision for one in leaving}


def present_pods(server: ModelServer, revision: str, observed: Observed) -> int | None:
    deployment = deployment_of(observed, server.name, revision)
    return None if deployment is None else int(deployment["spec"].get("replicas", 0))


def beside_rolling(
    replicas: Mapping[str, int],
    wanted: Mapping[str, int],
    needed: Iterable[str],
    present: Mapping[str, int | None],
) -> tuple[dict[str, int], dict[str, int]]:
    """Pods of the revisions that serve or shall, and those of experiments beside them.

    A revision that has just given the Service away keeps its pods until nodes know it, also if it
    is named by an experiment that needs fewer.
    """
    kept = set(needed)
    own = {one: count for one, count in replicas.items() if one in kept or one not in wanted}
    more = {
        one: max(count, present.get(one) or 0) if one in replicas else count
        for one, count in wanted.items()
        if one not in own
    }
    return own, more


def beside_run(
    replicas: Mapping[str, int], wanted: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """What a run gives pods has at least as many as an experiment asks for; 0 stays 0."""
    own = {one: max(count, wanted.get(one, 0)) if count else 0 for one, count in replicas.items()}
    return own, {one: count for one, count in wanted.items() if one not in own}


# -- route -----------------------------------------------------------------------------------------


def routed_experiments(server: ModelServer, tried: Iterable[Tried]) -> tuple[RoutedExperiment, ...]:
    """Those that the stored status lets into the route, in the order of the spec."""
    routed = {(one.name, one.revision) for one in server.status.experiments if one.is_routed}
    return tuple(
        one.routed for one in tried if not one.problem and (one.name, one.revision_name) in routed
    )
