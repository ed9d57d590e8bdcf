"""The built-in router's children: what they may reach, when they restart, what they are told."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.traffic import Router
from modelserver_operator.resources import labels
from modelserver_operator.resources.labels import child_labels, router_selector
from modelserver_operator.resources.network_policy import (
    make_routed_policy,
    make_router_policy,
    make_serving_policy,
)
from modelserver_operator.resources.revision import Pins, Revision, ServedSpec
from modelserver_operator.resources.route import Hold, Mirror
from modelserver_operator.resources.route_config import (
    make_route_config_map,
    route_document,
    route_version,
)
from modelserver_operator.resources.router import make_router, router_image
from support.network_policy import Flow, Pod, passes
from support.planning import CONFIG, a_server
from support.routes import (
    CANARY,
    IMAGE,
    STABLE,
    a_route,
    a_sticky,
    an_experiment,
    children_of,
)

SERVER = a_server()
DESIGN_EXAMPLE = {
    "server": "chat",
    "stable": "a1b2c3d4",
    "revisions": {
        "a1b2c3d4": {"url": "http://chat-a1b2c3d4"},
        "d4e5f6a7": {"url": "http://chat-d4e5f6a7"},
    },
    "weights": {"a1b2c3d4": 95, "d4e5f6a7": 5},
    "experiments": [
        {
            "name": "beta",
            "revision": "d4e5f6a7",
            "header": {"name": "x-track", "value": "beta"},
        }
    ],
    "sticky": {"cookie": "modelserver-track", "seconds": 3600},
    "mirror": {
        "revision": "d4e5f6a7",
        "percent": 10,
        "baselinePercent": 20,
        "compare": "Auto",
        "minCosinePercent": 98,
    },
    "hold": {"maxRequests": 800, "maxBytes": 67108864, "maxSeconds": 180},
    "timeoutSeconds": 120,
}


def test_the_document_is_the_one_that_the_router_reads():
    route = a_route(
        experiments=(an_experiment(header={"name": "x-track", "value": "beta"}),),
        sticky=a_sticky(cookie="modelserver-track"),
        mirror=Mirror(revision=CANARY, percent=10, baseline_percent=20),
        hold=Hold(),
    )
    document = route_document("chat", route)
    version = document.pop("version")
    assert document == DESIGN_EXAMPLE
    assert version == route_version("chat", route)


def test_what_is_unused_is_absent():
    assert route_document("chat", a_route()).keys() == {
        "version",
        "server",
        "stable",
        "revisions",
        "weights",
        "timeoutSeconds",
    }


@pytest.mark.parametrize(
    ("sticky", "said"),
    [
        ({"cookie": "track", "seconds": 60}, {"cookie": "track", "seconds": 60}),
        ({"header": "x-user"}, {"header": "x-user"}),
        ({"userKey": True}, {"userKey": True}),
    ],
)
def test_sticky_has_one_criterion(sticky, said):
    assert route_document("chat", a_route(sticky=a_sticky(**sticky)))["sticky"] == said


@pytest.mark.parametrize(
    "match",
    [
        {"header": {"name": "x-track", "value": "beta"}},
        {"cookie": {"name": "track", "value": "beta"}},
        {"userKeyPercent": 20},
    ],
)
def test_an_experiment_has_one_criterion(match):
    [said] = route_document("chat", a_route(experiments=(an_experiment(**match),)))["experiments"]
    assert said == {"name": "beta", "revision": CANARY, **match}


DIFFERENT = [
    a_route(),
    a_route(weights={STABLE: 94, CANARY: 6}),
    a_route(stable=CANARY),
    a_route(timeout_seconds=121),
    a_route(hold=Hold()),
    a_route(hold=Hold(max_seconds=1)),
    a_route(mirror=Mirror(revision=CANARY, percent=10)),
    a_route(revisions=(STABLE, CANARY, "00000000")),
    a_route(sticky=a_sticky(userKey=True)),
    a_route(experiments=(an_experiment(userKeyPercent=20),)),
]


def test_every_difference_is_another_version():
    assert len({route_version("chat", route) for route in DIFFERENT}) == len(DIFFERENT)


def test_the_order_of_weights_is_no_difference():
    turned = a_route(weights={CANARY: 5, STABLE: 95})
    assert make_route_config_map(SERVER, turned) == make_route_config_map(SERVER, a_route())


def test_another_route_is_one_write():
    """The ConfigMap; above all no pod restarts."""
    before, after = (
        children_of(Router.GATEWAY, SERVER, route) for route in (a_route(), DIFFERENT[1])
    )
    changed = [one["kind"] for one, other in zip(before, after, strict=True) if one != other]
    assert changed == ["ConfigMap"]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3))
def test_weights_sum_to_100(cuts):
    edges = [0, *sorted(cuts), 100]
    shares = {f"0000000{i}": high - low for i, (low, high) in enumerate(pairwise(edges))}
    route = a_route(stable="00000000", revisions=tuple(shares), weights=shares)
    document = json.loads(make_route_config_map(SERVER, route)["data"]["route.json"])
    assert document["weights"] == shares
    assert sum(route.shares.values()) == sum(document["weights"].values()) == 100


@pytest.mark.parametrize(
    "weights", [{}, {STABLE: 99}, {STABLE: 101}, {STABLE: 110, CANARY: -10}, {"00000000": 100}]
)
def test_a_route_that_loses_requests_is_none(weights):
    with pytest.raises(ValueError, match=r"weights must sum to 100|revisions that do not exist"):
        a_route(weights=weights)


# -- the pods ------------------------------------------------------------------------------------

IDENTITY = {"model": {"uri": "pvc://models"}}


def a_revision(image="", **spec):
    server = a_server({**IDENTITY, **spec})
    return Revision(served=ServedSpec.of(server.spec), pins=Pins(runtime_image=image))


TARGETS = {
    "the target's pinned runtime": (a_revision("pinned:2"), "pinned:2"),
    "the target's own runtime": (
        a_revision("pinned:2", runtime={"image": "mine:3"}),
        "mine:3",
    ),
    "the operator's, where the target runs another program": (
        a_revision(engine="Custom", runtime={"image": "vllm:1"}),
        "default:1",
    ),
}


@pytest.mark.parametrize(
    ("availability", "said"),
    [({}, {}), ({"priorityClassName": "important"}, {"priorityClassName": "important"})],
)
def test_a_router_gives_way_no_earlier_than_the_pods_behind_it(availability, said):
    deployment = make_router(a_server({**IDENTITY, "availability": availability}), IMAGE)
    pod = deployment["spec"]["template"]["spec"]
    assert {key: pod[key] for key in pod if key == "priorityClassName"} == said


@pytest.mark.parametrize("case", TARGETS)
def test_a_new_router_runs(case):
    target, image = TARGETS[case]
    assert router_image(SERVER, target, "default:1", None) == image


def test_a_router_keeps_its_image_when_another_target_comes():
    observed = make_router(SERVER, "pinned:1")
    assert router_image(SERVER, a_revision("pinned:2"), "default:2", observed) == "pinned:1"


def test_an_image_put_in_by_somebody_else_does_not_stay():
    observed = make_router(SERVER, "pinned:1")
    observed["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:1"
    assert router_image(SERVER, a_revision("pinned:2"), "default:2", observed) == "pinned:2"


def test_a_router_that_must_be_written_anyway_gets_the_newest_image():
    observed = make_router(SERVER, "pinned:1")
    drained = a_server({"runtime": {"drainSeconds": 5}})
    assert router_image(drained, a_revision("pinned:2"), "default:2", observed) == "pinned:2"


def test_no_selector_of_a_revision_meets_the_router():
    template = make_router(SERVER, IMAGE)["spec"]["template"]
    assert labels.REVISION not in template["metadata"]["labels"]
    assert template["metadata"]["labels"].items() >= router_selector("chat").items()


def test_the_users_template_says_where_the_router_runs_and_not_what():
    server = a_server(
        {
            "podTemplate": {
                "metadata": {"labels": {"team": "a"}},
                "spec": {
                    "nodeSelector": {"pool": "models"},
                    "containers": [{"name": "server", "env": [{"name": "A", "value": "b"}]}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                },
            }
        }
    )
    template = make_router(server, IMAGE)["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["labels"]["modelserver.dev/role"] == "router"
    assert template["spec"]["nodeSelector"] == {"pool": "models"}
    assert [one["name"] for one in template["spec"]["containers"]] == ["router"]
    assert [one["name"] for one in template["spec"]["volumes"]] == ["route", "tmp"]


# -- the network ---------------------------------------------------------------------------------

ROUTER_LABELS = {**child_labels("chat"), "modelserver.dev/role": "router"}
ROUTER_POD = Pod("models", ROUTER_LABELS)
MODEL = Pod("models", child_labels("chat", STABLE))
OTHER_MODEL = Pod("models", child_labels("other", STABLE))
CLIENT = Pod("models", {"app": "client"})
FRONT_END = Pod("models", {"app": "front"})
OPERATOR = Pod("modelserver-system", {"app.kubernetes.io/name": "modelserver-operator"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
ONLY_FRONT_END = {"ingressFrom": [{"podSelector": {"matchLabels": {"app": "front"}}}]}

FLOWS = [
    (ROUTER_POD, MODEL, 8080, True),
    (ROUTER_POD, MODEL, 9090, False),
    (ROUTER_POD, OTHER_MODEL, 8080, False),
    (ROUTER_POD, PROMETHEUS, 443, False),
    (CLIENT, ROUTER_POD, 8080, False),
    (CLIENT, ROUTER_POD, 9090, False),
    (CLIENT, MODEL, 8080, False),
    (FRONT_END, ROUTER_POD, 8080, True),
    (FRONT_END, MODEL, 8080, True),
    (FRONT_END, ROUTER_POD, 9090, False),
    (OPERATOR, ROUTER_POD, 9090, True),
    (PROMETHEUS, ROUTER_POD, 9090, True),
    (MODEL, ROUTER_POD, 8080, False),
]


def policies(network):
    server = a_server({"network": network})
    return [
        make_serving_policy(server, CONFIG),
        make_router_policy(server, CONFIG),
        make_routed_policy(server),
    ]


@pytest.mark.parametrize(("source", "destination", "port", "allowed"), FLOWS)
def test_who_may_talk_to_whom(source, destination, port, allowed):
    assert passes(Flow(source, destination, port), policies(ONLY_FRONT_END)) is allowed


def test_the_router_finds_the_models_by_name():
    assert passes(Flow(ROUTER_POD, DNS, 53, "UDP"), policies(ONLY_FRONT_END))


def test_everybody_of_the_namespace_reaches_the_router_where_nobody_is_named():
    assert passes(Flow(CLIENT, ROUTER_POD, 8080), policies({}))


def test_an_open_server_has_an_open_router_whose_counts_are_still_not_for_all():
    opened = policies({"policy": "Open"})
    assert passes(Flow(CLIENT, ROUTER_POD, 8080), opened)
    assert passes(Flow(OPERATOR, ROUTER_POD, 9090), opened)
    assert not passes(Flow(CLIENT, ROUTER_POD, 9090), opened)
