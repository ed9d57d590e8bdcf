"""All children that a server should have, as manifests."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from modelserver_operator.apis.pods import Budget, NetworkPolicyMode
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.arrangement import Arrangement
from modelserver_operator.plan.examining import Examination
from modelserver_operator.plan.looks import (
    child_revision,
    children_of_kind,
    deployment_of,
    stored_revisions,
)
from modelserver_operator.plan.routing import routing_children
from modelserver_operator.plan.scaling_values import NO_SIZING, Sizing
from modelserver_operator.plan.sizing import Demanded, RevisionScale, scale_of
from modelserver_operator.plan.values import NO_PREFLIGHT, Manifest, Observed
from modelserver_operator.resources import names
from modelserver_operator.resources.budget import make_budget
from modelserver_operator.resources.controller_revision import make_controller_revision
from modelserver_operator.resources.deployment import make_deployment
from modelserver_operator.resources.holder_slice import make_holder_slices
from modelserver_operator.resources.kinds import CONTROLLER_REVISION
from modelserver_operator.resources.network_policy import (
    make_fetching_policy,
    make_serving_policy,
)
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.service import (
    make_revision_service,
    make_root_service,
    make_routed_root_service,
)
from modelserver_operator.resources.service_account import make_service_account
from modelserver_operator.rollout.preflight import PreflightSeen
from modelserver_operator.scaling.handover import ownership_of

MIN_REPLICAS_FOR_BUDGET = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the children are made from."""

    target: Revision | None
    arrangement: Arrangement
    live: Mapping[str, Revision]  # those that we can make; see `live_revisions`
    job: Manifest | None
    examination: Examination | None = None
    sizing: Sizing = NO_SIZING
    scales: Mapping[str, RevisionScale] = MappingProxyType({})  # of `live`

    @property
    def preflight(self) -> PreflightSeen:
        return self.examination.seen if self.examination else NO_PREFLIGHT


def live_revisions(
    names: Iterable[str], known: Iterable[Revision | None], observed: Observed
) -> dict[str, Revision]:
    """The live revisions that are known in full: stored ones, and those that the spec asks for.

    One whose ControllerRevision was deleted by hand is known only if the spec asks for it; an old
    one is left as it is until it goes.
    """
    stored = stored_revisions(observed)
    stored |= {one.name: one for one in known if one is not None}
    return {name: stored[name] for name in sorted(names) if name in stored}


def desired_children(
    server: ModelServer, wanted: Wanted, observed: Observed, config: OperatorConfig
) -> Iterator[Manifest]:
    numbers = _numbers(server, observed)
    for revision in wanted.live.values():
        is_target = wanted.target is not None and revision.name == wanted.target.name
        number = _number(revision.name, numbers, is_target=is_target)
        yield make_controller_revision(server, revision, number=number)
        yield from _revision_children(server, revision, wanted.scales[revision.name])
    yield make_service_account(server)
    yield from _policies(server, wanted, config)
    if wanted.job is not None:
        yield wanted.job
    if wanted.examination is not None:
        yield from wanted.examination.children
    yield from _traffic(server, wanted, observed, config)


def _traffic(
    server: ModelServer, wanted: Wanted, observed: Observed, config: OperatorConfig
) -> Iterator[Manifest]:
    serving, routing = wanted.arrangement.serving, wanted.arrangement.routing
    runtime = wanted.live.get(serving) or wanted.target
    if routing is not None and runtime is not None:
        yield from routing_children(server, routing, runtime, observed, config)
    if routing is not None and routing.is_in_the_way:
        yield make_routed_root_service(server)
    elif serving:
        yield make_root_service(server, serving)
    if serving:
        yield from _holders(server, serving, wanted, observed)


def _holders(
    server: ModelServer, serving: str, wanted: Wanted, observed: Observed
) -> Iterator[Manifest]:
    """Beside the pods, or in their place: behind the server's Service, and behind its revision's,
    to which routes of others lead.
    """  # noqa: D205  one sentence
    effects = wanted.sizing.effects
    if effects is None or not effects.is_held or effects.holder_port is None:
        return
    gateways, port = observed.scaling.gateways, effects.holder_port
    yield from make_holder_slices(server, gateways, port=port)
    if wanted.arrangement.routing is not None:
        service = names.revision_child(server.name, serving)
        yield from make_holder_slices(server, gateways, port=port, service=service)


def scales_of(
    server: ModelServer,
    arrangement: Arrangement,
    live: Iterable[str],
    sizing: Sizing,
    observed: Observed,
    config: OperatorConfig,
) -> dict[str, RevisionScale]:
    scales: dict[str, RevisionScale] = {}
    for revision in live:
        serves = revision == arrangement.serving
        demanded = Demanded(
            revision=revision,
            pods=_pods_of(server, revision, arrangement, observed),
            may_scale=revision in arrangement.replicas and (arrangement.is_run or serves),
            is_serving=serves and not arrangement.is_run,
        )
        scales[revision] = scale_of(server, demanded, sizing, observed, config)
    return scales


def _pods_of(
    server: ModelServer, revision: str, arrangement: Arrangement, observed: Observed
) -> int:
    """Of a revision that leaves no pod is started, as when its server is woken meanwhile."""
    pods = arrangement.pods[revision]
    stays = arrangement.is_run or revision in {arrangement.serving, arrangement.wanted}
    deployment = deployment_of(observed, server.name, revision)
    if stays or revision in arrangement.tried or deployment is None:
        return pods
    return min(pods, ownership_of(deployment).replicas)


def _revision_children(
    server: ModelServer, revision: Revision, scale: RevisionScale
) -> Iterator[Manifest]:
    yield make_deployment(server, revision, replicas=scale.handover.main_replicas)
    yield make_revision_service(server, revision.name)
    has_budget = server.spec.availability.pdb is Budget.AUTO
    if has_budget and scale.pods >= MIN_REPLICAS_FOR_BUDGET:
        yield make_budget(server, revision.name)
    yield from scale.autoscalers


def _policies(server: ModelServer, wanted: Wanted, config: OperatorConfig) -> Iterator[Manifest]:
    mode = server.spec.network.policy
    if mode is NetworkPolicyMode.NONE:
        return
    yield make_serving_policy(server, config)
    endpoints = {one.pins.hub_endpoint for one in wanted.live.values() if one.is_fetched}
    if wanted.job is not None:
        endpoints.add(config.hub_endpoint)
    if endpoints and mode is NetworkPolicyMode.RESTRICTED:
        yield make_fetching_policy(server, endpoints)


def _numbers(server: ModelServer, observed: Observed) -> dict[str, int]:
    return {
        child_revision(one, server.name): int(one.get("revision", 0))
        for one in children_of_kind(observed, CONTROLLER_REVISION.kind)
    }


def _number(revision: str, numbers: Mapping[str, int], *, is_target: bool) -> int:
    """The target has the highest, also when it was asked for before others."""
    others = [number for name, number in numbers.items() if name != revision]
    newest = max(others, default=0)
    known = numbers.get(revision, 0)
    return known if known > newest or (known and not is_target) else newest + 1
