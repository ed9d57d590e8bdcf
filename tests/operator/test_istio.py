"""The VirtualService says the whole route, in the order in which Istio reads it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.model import Task
from modelserver_operator.apis.traffic import Router, ValueMatch
from modelserver_operator.resources.istio import make_destination_rule, make_virtual_service
from modelserver_operator.resources.matching import cookie_pattern
from modelserver_operator.resources.route import Mirror
from modelserver_operator.resources.route_acceptance import AcceptanceState, istio_acceptance_of
from support.planning import CONFIG, a_server
from support.routes import CANARY, STABLE, a_route, an_experiment, children_of

SERVER = a_server()


def rules_of(route, server=SERVER):
    return make_virtual_service(server, route, CONFIG)["spec"]["http"]


def shares(rule):
    return {one["destination"]["host"].partition(".")[0]: one["weight"] for one in rule["route"]}


@given(st.integers(0, 100))
def test_weights_sum_to_100_and_nobody_is_named_who_gets_nothing(weight):
    [main] = rules_of(a_route(weights={STABLE: 100 - weight, CANARY: weight}))
    wanted = {f"chat-{STABLE}": 100 - weight, f"chat-{CANARY}": weight}
    assert shares(main) == {name: share for name, share in wanted.items() if share}
    assert sum(shares(main).values()) == 100


def test_experiments_come_before_the_shares_and_in_their_order():
    route = a_route(
        experiments=(
            an_experiment("first", header={"name": "X-Track", "value": "beta"}),
            an_experiment("second", STABLE, cookie={"name": "track", "value": "old"}),
        )
    )
    first, second, main = rules_of(route)
    assert first["match"] == [{"headers": {"x-track": {"exact": "beta"}}}]
    assert shares(first) == {f"chat-{CANARY}": 100}
    assert shares(second) == {f"chat-{STABLE}": 100}
    assert [one["name"] for one in (first, second, main)] == [
        "experiment-first",
        "experiment-second",
        "main",
    ]
    assert "match" not in main


def test_copies_are_a_named_part_of_the_shared_requests_only():
    route = a_route(
        mirror=Mirror(revision=CANARY, percent=10),
        experiments=(an_experiment(header={"name": "a", "value": "b"}),),
    )
    experiment, main = rules_of(route)
    assert "mirrors" not in experiment
    [mirror] = main["mirrors"]
    assert mirror["percentage"] == {"value": 10}
    assert mirror["destination"]["host"] == f"chat-{CANARY}.models.svc.cluster.local"
    assert "mirrors" not in rules_of(a_route())[0]


@pytest.mark.parametrize(
    ("task", "attempts"),
    [
        (Task.AUTO, 0),
        (Task.TEXT_GENERATION, 0),
        (Task.SPEECH_RECOGNITION, 0),
        (Task.EMBEDDINGS, 1),
        (Task.TEXT_CLASSIFICATION, 1),
    ],
)
def test_what_a_model_may_have_begun_is_never_sent_again(task, attempts):
    server = a_server({"model": {"uri": "pvc://models", "task": str(task)}})
    [main] = rules_of(a_route(), server)
    assert main["retries"]["attempts"] == attempts
    assert main["retries"].get("retryOn", "") in {"", "connect-failure,refused-stream"}


def test_hosts_are_whole_names_of_the_clusters_domain():
    config = replace(CONFIG, cluster_domain="corp.example")
    spec = make_virtual_service(SERVER, a_route(hosts=("a.example.com",)), config)["spec"]
    assert spec["hosts"] == ["chat.models.svc.corp.example", "a.example.com"]
    assert spec["gateways"] == ["mesh"]
    rule = make_destination_rule(SERVER, STABLE, config)
    assert rule["spec"]["host"] == f"chat-{STABLE}.models.svc.corp.example"


def test_a_rule_for_each_revision_that_may_be_named():
    rules = [
        one
        for one in children_of(Router.ISTIO, SERVER, a_route())
        if one["kind"] == "DestinationRule"
    ]
    assert [one["metadata"]["name"] for one in rules] == [f"chat-{STABLE}", f"chat-{CANARY}"]


def test_another_weight_is_one_write():
    before, after = (
        children_of(Router.ISTIO, SERVER, a_route(weights={STABLE: 100 - w, CANARY: w}))
        for w in (5, 25)
    )
    changed = [one["kind"] for one, other in zip(before, after, strict=True) if one != other]
    assert changed == ["VirtualService"]


COOKIES = [
    ("track=beta", True),
    ("a=b; track=beta", True),
    ("a=b;track=beta; c=d", True),
    ("track=beta2", False),
    ("xtrack=beta", False),
    ("a=track=beta", False),
    ("track=other; x=beta", False),
]


@pytest.mark.parametrize(("header", "matches"), COOKIES)
def test_a_cookie_is_found_among_others(header, matches):
    pattern = cookie_pattern(ValueMatch(name="track", value="beta"))
    assert (re.fullmatch(pattern, header) is not None) is matches


@given(st.text(st.characters(codec="ascii", exclude_characters=";\n\r"), min_size=1))
def test_the_value_of_a_cookie_is_no_pattern(value):
    pattern = cookie_pattern(ValueMatch(name="track", value=value[:256]))
    assert re.fullmatch(pattern, f"a=b; track={value[:256]}; c=d")
    assert not re.fullmatch(pattern, f"track={value[:256]}x")


def test_users_cannot_be_told_apart():
    with pytest.raises(ValueError, match="Istio cannot tell users apart"):
        rules_of(a_route(experiments=(an_experiment(userKeyPercent=20),)))


# -- what its analysis says ------------------------------------------------------------------------


def analysed(*messages, generation=2, observed="2"):
    metadata = {"name": "chat", "generation": generation}
    status = {"observedGeneration": observed, "validationMessages": list(messages)}
    return {"kind": "VirtualService", "metadata": metadata, "status": status}


def message(level="ERROR", **more):
    return {
        "level": level,
        "type": {"code": "IST0101", "name": "ReferencedResourceNotFound"},
    } | more


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [{"kind": "DestinationRule", "metadata": {"name": "chat-a1b2c3d4", "generation": 1}}],
        [analysed()],
        [analysed(message("WARNING"), message("INFO"))],
        [analysed(message(), generation=3)],
        [analysed(message(), observed=1)],
    ],
    ids=["nothing", "silent", "clean", "advice", "old", "older"],
)
def test_what_istio_does_not_object_to_is_taken(objects):
    assert istio_acceptance_of(objects).state is AcceptanceState.ACCEPTED


@pytest.mark.parametrize("observed", [2, "2", 3])
def test_what_istio_objects_to_is_told_in_its_words(observed):
    silent = {"kind": "DestinationRule", "metadata": {"name": "chat-a1b2c3d4", "generation": 1}}
    wrong = message(documentationUrl="https://istio.io/ist0101")
    found = istio_acceptance_of([silent, analysed(message("INFO"), wrong, observed=observed)])
    assert found.state is AcceptanceState.REFUSED
    assert found.message == (
        "VirtualService chat: Istio's analysis says IST0101 ReferencedResourceNotFound"
        " (https://istio.io/ist0101)"
    )
