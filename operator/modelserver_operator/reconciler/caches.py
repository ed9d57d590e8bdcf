"""All that a replica remembers of the cluster, and which of it belongs to one ModelServer."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from modelserver_operator.cluster.client import ObjectName
from modelserver_operator.cluster.store import (
    Store,
    child_store,
    controller_of,
    pod_store,
    server_store,
)
from modelserver_operator.plan.scaling_values import ScalingHeard, ScalingObserved
from modelserver_operator.plan.values import ChildKey, Manifest, Observed, PodProgress
from modelserver_operator.reconciler.gateways import HolderPorts
from modelserver_operator.resources.holder_slice import GatewayPod
from modelserver_operator.resources.kinds import CHILD_KINDS, OPTIONAL_KINDS, POD
from modelserver_operator.resources.router_choice import NO_CAPABILITIES

KINDS = {kind.kind: kind for kind in (*CHILD_KINDS, *OPTIONAL_KINDS)}


@dataclass(frozen=True, slots=True)
class ServerId:
    """A ModelServer now: its name may belong to another one later."""

    where: ObjectName
    uid: str


class Strangers:
    """Objects of somebody else that have a name we want; no informer shows those."""

    def __init__(self) -> None:
        self._known: dict[ObjectName, dict[ChildKey, Manifest]] = defaultdict(dict)

    def add(self, server: ObjectName, key: ChildKey, manifest: Manifest) -> None:
        self._known[server][key] = manifest

    def of(self, server: ObjectName) -> Mapping[ChildKey, Manifest]:
        return dict(self._known.get(server, {}))

    def forget(self, server: ObjectName, key: ChildKey | None = None) -> None:
        if key is None:
            self._known.pop(server, None)
        elif server in self._known:
            self._known[server].pop(key, None)


class Found:
    """What the cluster has beyond Kubernetes; nothing until somebody has looked."""

    def __init__(self) -> None:
        self.capabilities = NO_CAPABILITIES
        self.gateways: tuple[GatewayPod, ...] = ()


def _stores() -> dict[str, Store]:
    return {kind: child_store() for kind in KINDS} | {POD.kind: pod_store()}


@dataclass(frozen=True, slots=True)
class Caches:
    """`of` holds the children by kind, and pods."""

    servers: Store = field(default_factory=server_store)
    of: dict[str, Store] = field(default_factory=_stores)
    strangers: Strangers = field(default_factory=Strangers)
    found: Found = field(default_factory=Found)
    ports: HolderPorts = field(default_factory=HolderPorts)
    last_heard: dict[ObjectName, ScalingHeard] = field(default_factory=dict)  # for rates

    def scaling_of(
        self, where: ObjectName, heard: ScalingHeard | None, last: ScalingHeard | None
    ) -> ScalingObserved:
        """`heard` at this look, if anybody was asked; `last` at the one before."""
        return ScalingObserved(
            heard=heard,
            last=last,
            gateways=self.found.gateways,
            taken_ports=self.ports.of_others(where),
        )

    def observe(
        self,
        server: ServerId,
        progress: Mapping[str, PodProgress],
        mount_failures: Mapping[str, str],
    ) -> Observed:
        children: dict[ChildKey, Manifest] = {}
        others = dict(self.strangers.of(server.where))
        for kind in KINDS:
            for manifest in self.of[kind].of_server(server.where):
                key = ChildKey(kind, manifest["metadata"]["name"])
                (children if is_owned_by(manifest, server.uid) else others)[key] = manifest
        pods = self.of[POD.kind].of_server(server.where)
        ours = tuple(pod for pod in pods if _runs_for(pod, children))
        return Observed(
            children=children,
            strangers=others,
            pods=ours,
            progress=progress,
            mount_failures=mount_failures,
            capabilities=self.found.capabilities,
        )


def is_owned_by(manifest: Manifest, uid: str) -> bool:
    controller = controller_of(manifest)
    return controller is not None and controller["uid"] == uid


def _runs_for(pod: Manifest, children: Mapping[ChildKey, Manifest]) -> bool:
    """A pod of one of our Jobs, or of a ReplicaSet `<deployment>-<hash>` of our Deployments."""
    controller = controller_of(pod)
    if controller is None:
        return False
    if controller["kind"] == "ReplicaSet":
        deployment = str(controller["name"]).rpartition("-")[0]
        return ChildKey("Deployment", deployment) in children
    owner = children.get(ChildKey(controller["kind"], controller["name"]))
    return owner is not None and owner["metadata"]["uid"] == controller["uid"]
