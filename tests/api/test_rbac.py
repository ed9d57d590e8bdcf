"""The operator's rights are those that it uses: none is missing, none is left over.

A scenario in which everything happens is played; what it used, by the audit log, is what the roles
grant. Then each verb is withdrawn in turn, and the API server is seen to refuse the operator.
"""

import json
import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from support import pod_outcomes
from support.audit import AuditEntry, AuditLog
from support.crash_sweep import FIRST, SECOND, Lane, open_lanes
from support.kube import plural_of
from support.manifests import Permission, permissions
from support.played_scaling import gateway_pod, resource_metrics
from support.servers import CHILD_COLLECTIONS, SERVER_LABEL, pinned
from support.stage import Stage
from support.waiting import wait_until

LANES = ["rights-a", "rights-b", "rights-c"]
SEEN_SECONDS = 60

# What we do not set: it can only be taken away by replacing the object.
ADDITIONS: dict[str, dict[str, Any]] = {
    "deployments": {"spec": {"template": {"spec": {"nodeSelector": {"color": "blue"}}}}},
    "networkpolicies": {"spec": {"ingress": [{}], "policyTypes": ["Ingress", "Egress"]}},
    "services": {"spec": {"externalIPs": ["192.0.2.1"]}},
    "poddisruptionbudgets": {"spec": {"maxUnavailable": None, "minAvailable": 1}},
}
ROUTE_ADDITIONS: dict[str, dict[str, Any]] = {
    "destinationrules": {"spec": {"exportTo": ["."]}},
    "virtualservices": {"spec": {"exportTo": ["."]}},
    "httproutes": {"spec": {"hostnames": ["other.example.com"]}},
}
SECOND_WITHOUT_POLICY = SECOND | {"network": {"policy": "None"}}
CHILD_RESOURCES = {plural_of(kind) for kind in CHILD_COLLECTIONS}
CHILD_RESOURCES -= {"configmaps", "horizontalpodautoscalers"}

# A router's objects need somebody who wants one.
ISTIO = "/apis/networking.istio.io/v1/namespaces/{}/"
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/"
ROUTES = {
    "destinationrules": f"{ISTIO}destinationrules",
    "virtualservices": f"{ISTIO}virtualservices",
    "httproutes": f"{GATEWAY_API}httproutes",
}
BY_ISTIO, BY_GATEWAY_API, BUILT_IN, NOBODY = (
    {"traffic": {"router": router}} for router in ("Istio", "GatewayAPI", "Gateway", "None")
)
ROUTER_OF = {
    "destinationrules": BY_ISTIO,
    "virtualservices": BY_ISTIO,
    "httproutes": BY_GATEWAY_API,
}
# What scales, or stands in for pods that sleep, needs somebody who is scaled.
SCALED = {
    "horizontalpodautoscalers": {"engine": "HPA", "metrics": [{"name": "cpu", "target": 70}]},
    "scaledobjects": {
        "engine": "KEDA",
        "triggers": [{"name": "jobs", "type": "rabbitmq", "metadata": {"queueName": "jobs"}}],
    },
    "endpointslices": {"minReplicas": 0, "zero": {"idleSeconds": 10}},
}
SCALED_COLLECTIONS = {
    "horizontalpodautoscalers": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "scaledobjects": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "endpointslices": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}
KINDS_OF_SCALED = {
    "horizontalpodautoscalers": ("autoscaling/v2", "HorizontalPodAutoscaler"),
    "scaledobjects": ("keda.sh/v1alpha1", "ScaledObject"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
}
SCALED_ADDITIONS: dict[str, dict[str, Any]] = {
    "horizontalpodautoscalers": {"spec": {"behavior": {"scaleUp": {"tolerance": "0.2"}}}},
    "scaledobjects": {"spec": {"cooldownPeriod": 77}},
}
RUN = {"rollout": {"strategy": "Canary"}, "runtime": {"args": ["--next"]}}
LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/modelserver-operator"


@dataclass(slots=True)
class Actor:
    """Provokes the operator of one lane to use each of its rights."""

    lane: Lane
    stage: Stage
    names: Iterator[int] = field(default_factory=count)

    @property
    def servers(self):
        return self.lane.servers

    @property
    def kube(self):
        return self.lane.servers.kube

    def new_name(self) -> str:
        return f"actor{next(self.names)}x"

    def wait_until_strangers_are_looked_at(self) -> None:
        """A conflict is told as soon as one of several strangers is known."""

        def left() -> AbstractSet[str]:
            gets = [seen.request for seen in self.lane.proxy.seen if seen.request.verb == "get"]
            return CHILD_RESOURCES - {request.resource for request in gets}

        wait_until(lambda: not left(), timeout=60, what="every kind of stranger is looked at")

    def wait_until_events_are_read(self) -> None:
        def is_read() -> bool:
            requests = (seen.request for seen in self.lane.proxy.seen)
            return any((one.resource, one.verb) == ("events", "list") for one in requests)

        wait_until(is_read, timeout=60, what="Events of a pod are read")

    def settle_one(self, target: str = "") -> str:
        name = self.new_name()
        self.servers.create(name, spec_with(target))
        self.servers.wait_settled(name)
        return name

    def crowd_one(self, resources: AbstractSet[str], target: str = "") -> str:
        """A server whose children's names are taken; that of the resolving Job has to be learnt."""
        name, seen = self.new_name(), len(self.lane.proxy.seen)
        self.servers.create(name, spec_with(target))
        self.servers.wait_settled(name)
        self.servers.delete(name)
        self.servers.wait_gone(name)
        for write in self.lane.proxy.writes(seen):
            is_its_own = re.split("[-.]", write.request.name)[0] == name
            is_meant = is_its_own and write.request.resource in resources
            if is_meant and write.status == httpx.codes.CREATED:
                self.kube.create(_stranger(json.loads(write.body)))
        self.servers.create(name, spec_with(target))
        return name

    def roll_one(self, name: str) -> None:
        """A run begins, which needs the built-in router."""
        self.servers.patch(name, RUN)

    def crowd_router(self) -> str:
        """A server that is rolled out, while the name of its router's route is taken."""
        name = self.settle_one()
        metadata = {"name": f"{name}-router", "namespace": self.servers.namespace}
        self.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        self.roll_one(name)
        return name

    def wait_for_route(self, name: str, *, there: bool) -> None:
        def is_so() -> bool:
            return (self.servers.child("ConfigMap", f"{name}-router") is not None) is there

        wait_until(is_so, timeout=60, what=f"the route of {name} {'made' if there else 'gone'}")

    def wait_until_used(self, resource: str, verb: str) -> None:
        def is_used() -> bool:
            requests = (seen.request for seen in self.lane.proxy.seen)
            return any((one.resource, one.verb) == (resource, verb) for one in requests)

        wait_until(is_used, timeout=60, what=f"{verb} of {resource}")

    def look_anew(self) -> None:
        """Every list and every watch."""
        with self.lane.proxy.blackout():
            pass

    def add_to_route(self, name: str, resource: str) -> None:
        collection = ROUTES[resource].format(self.servers.namespace)
        for item in self.kube.items(collection, f"{SERVER_LABEL}={name}"):
            path = f"{collection}/{item['metadata']['name']}"
            self.kube.patch(path, ROUTE_ADDITIONS[resource])

    def settle_scaled(self, resource: str) -> str:
        """A server with one of these, whose pods say that nobody asks them."""
        name = self.new_name()
        self.stage.traffic.idle.add(name)
        self.stage.direct(self.stage.traffic.outcome, server=name)
        self.servers.create(name, spec_with(resource))
        self.servers.wait_settled(name)
        self.wait_for_scaled(name, resource, there=True)
        return name

    def scaled_of(self, name: str, resource: str) -> list[dict[str, Any]]:
        collection = SCALED_COLLECTIONS[resource].format(self.servers.namespace)
        ours = f"{SERVER_LABEL}={name},app.kubernetes.io/managed-by=modelserver-operator"
        found = self.kube.items(collection, ours)
        by_others = "endpointslice-controller.k8s.io"
        return [one for one in found if by_others not in one["metadata"]["labels"].values()]

    def wait_for_scaled(self, name: str, resource: str, *, there: bool) -> None:
        def is_so() -> bool:
            return bool(self.scaled_of(name, resource)) is there

        what = f"{resource} of {name} {'made' if there else 'gone'}"
        wait_until(is_so, timeout=60, what=what, interval=0.1)

    def add_to_scaled(self, name: str, resource: str) -> None:
        for item in self.scaled_of(name, resource):
            collection = SCALED_COLLECTIONS[resource].format(self.servers.namespace)
            self.kube.patch(f"{collection}/{item['metadata']['name']}", SCALED_ADDITIONS[resource])

    def crowd_scaled(self, resource: str) -> str:
        """What scales it bears a name that is taken."""
        name = self.settle_scaled(resource)
        taken = self.scaled_of(name, resource)
        self.servers.delete(name)
        self.servers.wait_gone(name)
        self.wait_for_scaled(name, resource, there=False)
        version, kind = KINDS_OF_SCALED[resource]
        for one in taken:
            self.kube.create(_stranger(one | {"apiVersion": version, "kind": kind}))
        self.servers.create(name, spec_with(resource))
        return name

    def add_to(self, name: str, resource: str) -> None:
        for child in self.servers.children(name):
            if plural_of(child["kind"]) == resource:
                path = self.servers.child_path(child["kind"], child["metadata"]["name"])
                if resource != "networkpolicies" or path.endswith("-fetch"):
                    self.kube.patch(path, ADDITIONS[resource])

    def hide_a_volume(self) -> str:
        """A server whose pod cannot mount its volumes, since now: it is asked about often."""
        name, now = self.new_name(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        outcome = pod_outcomes.not_mounted(since=now)
        self.stage.direct(outcome, server=name, namespace=self.servers.namespace)
        self.servers.create(name, pinned())
        return name

    def lose_the_lease(self) -> None:
        self.kube.delete(LEASE.format(self.lane.operator.installation.namespace))

    def wait_until_well(self) -> None:
        watched = CHILD_RESOURCES | set(ROUTES) | set(SCALED)
        watched |= {"configmaps", "pods", "modelservers"}

        def is_well() -> bool:
            return {request.resource for request in self.lane.proxy.open_watches} >= watched

        wait_until(is_well, timeout=SEEN_SECONDS, what="a watch of every kind", interval=0.05)


def spec_with(target: str) -> dict[str, Any]:
    """One that makes objects of this resource."""
    if target in SCALED:
        return FIRST | {"replicas": 1, "autoscaling": {"maxReplicas": 2, **SCALED[target]}}
    return FIRST | ROUTER_OF.get(target, {})


def _stranger(manifest):
    """The same object without owner and our labels, so that no watch shows it; it makes no pods."""
    metadata = manifest["metadata"]
    if manifest["kind"] == "Deployment":
        manifest["spec"]["replicas"] = 0
    if manifest["kind"] == "Job":
        manifest["spec"]["suspend"] = True
    manifest.pop("status", None)
    bare = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return manifest | {"metadata": bare | {"labels": {"app": "mine"}}}


def used_by(entries: list[AuditEntry]) -> set[tuple[str, str, str]]:
    """(group, target, verb); an apply that creates needs both patch and create."""
    used = set()
    for entry in entries:
        request = entry.request
        used.add((request.group, request.target, request.verb))
        if request.verb == "patch" and entry.code == httpx.codes.CREATED:
            used.add((request.group, request.target, "create"))
    return used


def play_everything(actor: Actor) -> None:
    """Creation, conflicts, drift, another revision, removal, relists, a lost Lease, deletion."""
    name = actor.settle_one()
    actor.look_anew()
    for resource in ADDITIONS:
        actor.add_to(name, resource)
    crowded = [actor.crowd_one({"jobs"}), actor.crowd_one(CHILD_RESOURCES - {"jobs"})]
    for other in crowded:
        actor.servers.wait_diagnosis(other, "NameConflict")
    actor.wait_until_strangers_are_looked_at()
    stuck = actor.hide_a_volume()
    actor.wait_until_events_are_read()
    actor.lose_the_lease()
    actor.servers.wait_settled(name)
    actor.servers.patch(name, SECOND_WITHOUT_POLICY)
    actor.servers.wait_settled(name)
    wait_until(
        lambda: len(actor.servers.children(name)) == 5, timeout=60, what="the old revision gone"
    )
    play_routes(actor)
    play_scaling(actor)
    for each in (name, stuck, *crowded):
        actor.servers.delete(each)


def play_routes(actor: Actor) -> None:
    """Routes of Istio, of the Gateway API and of the built-in router, one after the other."""
    routed = actor.settle_one("virtualservices")
    for resource in ("destinationrules", "virtualservices"):
        actor.add_to_route(routed, resource)
        actor.wait_until_used(resource, "update")
    actor.servers.patch(routed, BY_GATEWAY_API)
    actor.servers.wait_settled(routed)
    actor.wait_until_used("virtualservices", "delete")
    actor.add_to_route(routed, "httproutes")
    actor.wait_until_used("httproutes", "update")
    actor.servers.patch(routed, BUILT_IN)
    actor.wait_until_used("httproutes", "delete")
    actor.roll_one(routed)
    actor.wait_for_route(routed, there=True)
    actor.servers.patch(routed, NOBODY)
    actor.wait_for_route(routed, there=False)
    others = [actor.crowd_one(set(ROUTES), resource) for resource in ROUTER_OF]
    for each in (*others, actor.crowd_router()):
        actor.servers.wait_diagnosis(each, "NameConflict")
    for resource in (*ROUTES, "configmaps"):
        actor.wait_until_used(resource, "get")
    for each in (routed, *others):
        actor.servers.delete(each)


def play_scaling(actor: Actor) -> None:
    """Autoscalers and the gateway's addresses are made, bent, taken away, and found taken."""
    for resource in SCALED:
        name = actor.settle_scaled(resource)
        if resource in SCALED_ADDITIONS:
            actor.add_to_scaled(name, resource)
            actor.wait_until_used(resource, "update")
        actor.servers.patch(name, {"autoscaling": None})
        actor.wait_until_used(resource, "delete")
        crowded = actor.crowd_scaled(resource)
        actor.wait_until_used(resource, "get")
        for each in (name, crowded):
            actor.servers.delete(each)


@pytest.fixture(scope="module")
def lanes(cluster, kube, manifests, installation, stage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lanes")
    with ExitStack() as stack:
        stack.enter_context(resource_metrics(kube))
        opened = stack.enter_context(open_lanes(cluster, kube, manifests, folder, LANES))
        for lane in opened:
            stack.enter_context(gateway_pod(kube, lane.operator.installation.namespace))
        yield [Actor(lane, stage) for lane in opened]


@pytest.fixture(scope="module")
def granted(lanes) -> list[Permission]:
    return sorted(lanes[0].lane.operator.installation.permissions())


@pytest.mark.timeout(600)
def test_every_right_is_used_and_none_is_missing(lanes, granted, audit: AuditLog):
    actor, mark = lanes[0], audit.mark()
    actor.wait_until_well()
    play_everything(actor)
    user = actor.lane.operator.installation.user
    entries = audit.entries(mark, where=lambda entry: entry.user == user)
    assert [str(entry) for entry in entries if entry.is_forbidden] == []
    used = used_by([entry for entry in entries if entry.request.resource])
    unused = {p for p in granted if (p.group, p.target, p.verb) not in used}
    assert sorted(map(str, unused)) == []
    assert used == {(p.group, p.target, p.verb) for p in granted}


type Provocation = Callable[[Actor, Permission, str], None]


def provoke_read(actor: Actor, _permission: Permission, _name: str) -> None:
    actor.look_anew()


def provoke_making(actor: Actor, permission: Permission, _name: str) -> None:
    actor.servers.create(actor.new_name(), spec_with(permission.target))


def provoke_look_at_stranger(actor: Actor, permission: Permission, _name: str) -> None:
    actor.crowd_one({permission.target}, permission.target)


def provoke_replacement(actor: Actor, permission: Permission, name: str) -> None:
    if permission.target in ROUTES:
        actor.add_to_route(name, permission.target)
    else:
        actor.add_to(name, permission.target)


def provoke_rollout(actor: Actor, permission: Permission, name: str) -> None:
    """Its route is made, found to be somebody else's, or taken away."""
    if permission.verb == "get":
        actor.crowd_router()
        return
    actor.roll_one(name)
    if permission.verb == "delete":
        actor.wait_for_route(name, there=True)
        actor.servers.patch(name, NOBODY)


def provoke_question(actor: Actor, _permission: Permission, _name: str) -> None:
    actor.hide_a_volume()


def provoke_removal(actor: Actor, permission: Permission, name: str) -> None:
    is_route = permission.target in ROUTES
    actor.servers.patch(name, BUILT_IN if is_route else SECOND_WITHOUT_POLICY)


def provoke_scaling(actor: Actor, permission: Permission, name: str) -> None:
    """What scales is made, bent, taken away, or found to be somebody else's."""
    match permission.verb:
        case "get":
            actor.crowd_scaled(permission.target)
        case "update":
            actor.add_to_scaled(name, permission.target)
        case "delete":
            actor.servers.patch(name, {"autoscaling": None})
        case _:
            other = actor.new_name()
            actor.stage.traffic.idle.add(other)
            actor.stage.direct(actor.stage.traffic.outcome, server=other)
            actor.servers.create(other, spec_with(permission.target))


def provoke_election(actor: Actor, _permission: Permission, _name: str) -> None:
    actor.lose_the_lease()


BY_TARGET: dict[str, Provocation] = {
    "leases": provoke_election,
    "modelservers/status": provoke_making,
    "pods": provoke_making,
    "events": provoke_making,
    "configmaps": provoke_rollout,
}
BY_VERB: dict[str, Provocation] = {
    "get": provoke_look_at_stranger,
    "create": provoke_making,
    "patch": provoke_making,
    "update": provoke_replacement,
    "delete": provoke_removal,
}


def provocation_of(permission: Permission) -> Provocation:
    if (permission.target, permission.verb) == ("events", "list"):
        return provoke_question
    if permission.verb in {"list", "watch"}:
        return provoke_read
    if (permission.target, permission.verb) == ("modelservers", "get"):
        return provoke_making
    if permission.target in SCALED:
        return provoke_scaling
    return BY_TARGET.get(permission.target) or BY_VERB[permission.verb]


def is_refusal(permission: Permission, user: str) -> Callable[[AuditEntry], bool]:
    """Creation by server-side apply is refused as a patch."""
    verbs = {permission.verb, "patch"} if permission.verb == "create" else {permission.verb}

    def look(entry: AuditEntry) -> bool:
        request = entry.request
        is_meant = (request.group, request.target) == (permission.group, permission.target)
        return is_meant and request.verb in verbs and entry.user == user and entry.is_forbidden

    return look


def missed_when_withdrawn(actor: Actor, audit: AuditLog, permission: Permission) -> str:
    """Empty if the API server refused the operator something; else what was not needed."""
    is_scaled = permission.target in SCALED
    settle = actor.settle_scaled if is_scaled else actor.settle_one
    name = settle(permission.target)
    installation = actor.lane.operator.installation
    mark = audit.mark()
    installation.withdraw(permission)
    look = is_refusal(permission, installation.user)
    try:
        provocation_of(permission)(actor, permission, name)
        wait_until(
            lambda: audit.entries(mark, where=look),
            timeout=SEEN_SECONDS,
            what=f"{permission} refused",
            interval=0.05,
        )
    except AssertionError as e:
        return f"{permission}: {e}"
    finally:
        installation.restore()
        for server in actor.kube.items(actor.servers.collection):
            actor.servers.delete(server["metadata"]["name"])
        actor.wait_until_well()
    return ""


@pytest.mark.timeout(1200)
def test_each_right_is_needed(lanes, granted, audit):
    """One after the other is withdrawn; the operator asks for it and is refused."""
    shares = [(actor, granted[number :: len(lanes)]) for number, actor in enumerate(lanes)]

    def work(actor: Actor, share: list[Permission]) -> list[str]:
        found = (missed_when_withdrawn(actor, audit, permission) for permission in share)
        return [missed for missed in found if missed]

    with ThreadPoolExecutor(len(lanes)) as pool:
        results = [pool.submit(work, actor, share) for actor, share in shares]
        assert [missed for result in results for missed in result.result()] == []


def test_nothing_beyond_the_roles_of_the_manifests_is_bound(lanes, manifests, granted):
    """No wildcard, no secrets, nothing in other API groups than those of the children."""
    rights = permissions(manifests, lanes[0].lane.operator.installation.account)
    assert {(r.group, r.target, r.verb) for r in rights} == {
        (p.group, p.target, p.verb) for p in granted
    }
    assert not any("*" in (right.group, right.target, right.verb) for right in rights)
    assert not any(right.target in {"secrets", "namespaces", "nodes"} for right in rights)
