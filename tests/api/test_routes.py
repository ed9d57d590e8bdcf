"""Every route, sent to a real API server with the real definitions of Istio and the Gateway API.

Their schemas and CEL rules decide; what is read back must be what was written, or the operator
would write for ever.
"""

import copy
import json

import pytest

from modelserver_operator.apis.traffic import Router
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.cluster.access import from_kubeconfig
from modelserver_operator.cluster.client import ApiClient
from modelserver_operator.cluster.discovery import Discovery
from modelserver_operator.cluster.transport import Transport
from modelserver_operator.plan.desired import write_of
from modelserver_operator.plan.drift import FIELD_MANAGER
from modelserver_operator.plan.values import WriteMode
from modelserver_operator.resources.kinds import OPTIONAL_KINDS
from modelserver_operator.resources.route import Mirror
from modelserver_operator.resources.route_acceptance import AcceptanceState, acceptance_of
from support.definition import install_definition
from support.kube import path_of
from support.planning import a_manifest
from support.routes import (
    CANARY,
    STABLE,
    STORIES,
    a_route,
    children_of,
    services_of,
    story,
)

CASES = [
    (path.name, router) for path in sorted(STORIES.iterdir()) for router in story(path.name)[2]
]
DRY_RUN = {"fieldManager": FIELD_MANAGER, "dryRun": "All", "fieldValidation": "Strict"}
APPLY = "application/apply-patch+yaml"


@pytest.fixture(scope="module", autouse=True)
def _definition(kube):
    install_definition(kube)


@pytest.fixture
def owner(kube, namespace):
    """A ModelServer of that name, so that nothing is collected as an orphan."""

    def make(server=None):
        spec = server.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        manifest = a_manifest(spec)
        manifest["metadata"] = {"name": "chat", "namespace": namespace}
        return parse_model_server(kube.create(manifest))

    return make


@pytest.fixture
def play(kube, owner):
    """Writes the children of a story."""

    def write(case, router):
        given, route, _ = story(case)
        server = owner(given)
        made = [*services_of(server, route), *children_of(router, server, route)]
        for manifest in made:
            kube.apply(manifest, manager=FIELD_MANAGER)
        return server, route, made

    return write


@pytest.mark.parametrize(("case", "router"), CASES)
def test_every_child_is_accepted_and_stays_as_it_was_written(kube, owner, case, router):
    given, route, _ = story(case)
    server = owner(given)
    for manifest in [*services_of(server, route), *children_of(router, server, route)]:
        path = path_of(manifest)
        tried = kube.ask("PATCH", path, manifest, content_type=APPLY, params=DRY_RUN)
        assert tried.is_success, f"{path}: {tried.text}"
        assert kube.get(path) is None
        kube.apply(manifest, manager=FIELD_MANAGER)
        assert write_of(manifest, kube.get(path)) is None


BROKEN = {
    "a mirror with two shares": (
        Router.GATEWAY_API,
        lambda spec: spec["rules"][0]["filters"][0]["requestMirror"].update(percent=10),
        "Only one of percent or fraction may be specified",
    ),
    "more copies than requests": (
        Router.GATEWAY_API,
        lambda spec: spec["rules"][0]["filters"][0]["requestMirror"]["fraction"].update(
            numerator=101
        ),
        "numerator must be less than or equal to denominator",
    ),
    "a time that is none": (
        Router.ISTIO,
        lambda spec: spec["http"][0].update(timeout="0s"),
        "must be a valid duration greater than 1ms",
    ),
    "a field that nobody knows": (
        Router.ISTIO,
        lambda spec: spec["http"][0].update(mirrorFraction=10),
        "mirrorFraction",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_rules_of_the_definitions_are_asked(kube, owner, name):
    """Otherwise the other tests of this file would say nothing."""
    router, spoil, message = BROKEN[name]
    given, route, _ = story("shadow")
    *_, manifest = children_of(router, owner(given), route)
    spoiled = copy.deepcopy(manifest)
    spoil(spoiled["spec"])
    answer = kube.ask("PATCH", path_of(manifest), spoiled, content_type=APPLY, params=DRY_RUN)
    assert not answer.is_success
    assert message in answer.text


@pytest.mark.parametrize(
    ("router", "written"),
    [
        (Router.GATEWAY, ["ConfigMap"]),
        (Router.ISTIO, ["VirtualService"]),
        (Router.GATEWAY_API, ["HTTPRoute"]),
    ],
)
def test_a_whole_rewrite_is_one_write(kube, owner, router, written):
    """Weights, mirror and all: nobody ever sees the half of it."""
    server = owner(story("step")[0])
    before = a_route(weights={STABLE: 100, CANARY: 0}, mirror=Mirror(revision=CANARY, percent=10))
    after = a_route(weights={STABLE: 75, CANARY: 25})
    for manifest in children_of(router, server, before):
        kube.apply(manifest, manager=FIELD_MANAGER)
    wanted = children_of(router, server, after)
    writes = [write for one in wanted if (write := write_of(one, kube.get(path_of(one))))]
    assert [write.manifest["kind"] for write in writes] == written
    kube.apply(writes[0].manifest, manager=FIELD_MANAGER)
    assert [write_of(one, kube.get(path_of(one))) for one in wanted] == [None] * len(wanted)
    stored = kube.get(path_of(writes[0].manifest))
    assert "irror" not in json.dumps(stored.get("spec") or stored["data"])


def swap(items):
    items[0], items[-1] = items[-1], items[0]


EDITS = {
    "another weight of Istio": (
        "experiments",
        Router.ISTIO,
        lambda spec: spec["http"][-1]["route"][0].update(weight=50),
    ),
    "another order of rules": ("experiments", Router.ISTIO, lambda spec: swap(spec["http"])),
    "retries that nobody forbids": (
        "step",
        Router.ISTIO,
        lambda spec: spec["http"][0].pop("retries"),
    ),
    "a number of retries that is not said": (
        "step",
        Router.ISTIO,
        lambda spec: spec["http"][0]["retries"].pop("attempts"),
    ),
    "a fault put in": (
        "step",
        Router.ISTIO,
        lambda spec: spec["http"][0].update(fault={"abort": {"httpStatus": 500}}),
    ),
    "another weight of the Gateway API": (
        "step",
        Router.GATEWAY_API,
        lambda spec: spec["rules"][0]["backendRefs"][0].update(weight=1),
    ),
    "everything is copied": (
        "shadow",
        Router.GATEWAY_API,
        lambda spec: spec["rules"][0]["filters"][0]["requestMirror"].pop("fraction"),
    ),
    "another host": (
        "step",
        Router.GATEWAY_API,
        lambda spec: spec.update(hostnames=["other.example.com"]),
    ),
    "a Gateway less": ("step", Router.GATEWAY_API, lambda spec: spec["parentRefs"].pop()),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_put_right(kube, play, edit):
    case, router, spoil = EDITS[edit]
    _, _, made = play(case, router)
    kinds = {"VirtualService", "HTTPRoute"}
    wanted = next(one for one in made if one["kind"] in kinds)
    path = path_of(wanted)
    before = kube.get(path)
    spoiled = copy.deepcopy(before)
    spoil(spoiled["spec"])
    kube.replace(path, spoiled)
    write = write_of(wanted, kube.get(path))
    assert write is not None
    if write.mode is WriteMode.APPLY:
        kube.apply(write.manifest, manager=FIELD_MANAGER)
    else:
        kube.replace(path, write.manifest)
    assert kube.get(path)["spec"] == before["spec"]
    assert write_of(wanted, kube.get(path)) is None


def answered(kube, route, *, reason="Accepted", status="True"):
    """A controller of the Gateway API reports on what it has seen."""
    conditions = [
        {
            "type": kind,
            "status": status if kind == "Accepted" else "True",
            "reason": reason if kind == "Accepted" else kind,
            "message": "as played",
            "observedGeneration": route["metadata"]["generation"],
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    parents = [
        {
            "parentRef": parent,
            "controllerName": "example.com/controller",
            "conditions": conditions,
        }
        for parent in route["spec"]["parentRefs"]
    ]
    answer = kube.ask("PUT", f"{path_of(route)}/status", route | {"status": {"parents": parents}})
    assert answer.is_success, answer.text
    return answer.json()


def test_a_route_counts_as_taken_only_at_the_generation_that_was_written(kube, play):
    server, _, made = play("step", Router.GATEWAY_API)
    outside = next(one for one in made if one["kind"] == "HTTPRoute")
    path = path_of(outside)
    assert acceptance_of([kube.get(path)]).state is AcceptanceState.PENDING
    taken = answered(kube, kube.get(path))
    assert acceptance_of([taken]).state is AcceptanceState.ACCEPTED
    assert write_of(outside, taken) is None
    next_step = a_route(
        weights={STABLE: 75, CANARY: 25},
        hosts=("chat.example.com",),
        gateways=("gateways/public", "internal"),
    )
    [again, _] = children_of(Router.GATEWAY_API, server, next_step)
    kube.apply(again, manager=FIELD_MANAGER)
    assert acceptance_of([kube.get(path)]).state is AcceptanceState.PENDING
    refused = answered(kube, kube.get(path), reason="NotAllowedByListeners", status="False")
    found = acceptance_of([refused])
    assert found.state is AcceptanceState.REFUSED
    assert "NotAllowedByListeners: as played" in found.message


async def test_the_published_schemas_have_all_that_is_written(cluster):
    access = from_kubeconfig(cluster.kubeconfig)
    async with Transport(access, lambda **_: None) as transport:
        found = await Discovery(ApiClient(transport)).look()
    assert found.kinds == frozenset(OPTIONAL_KINDS)
    assert found.outdated == {}
