"""HTTPRoutes say the whole route, with everything that the API server would fill in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.resources.gateway_api import make_http_routes
from modelserver_operator.resources.route import Mirror
from modelserver_operator.resources.route_acceptance import AcceptanceState, acceptance_of
from support.planning import a_server
from support.routes import CANARY, STABLE, a_route, an_experiment

SERVER = a_server()
GATEWAYS = ("gateways/public", "internal")
ACCEPTED, PENDING, REFUSED = AcceptanceState


def rules_of(route):
    [mesh] = make_http_routes(SERVER, route)
    return mesh["spec"]["rules"]


def shares(rule):
    return {one["name"]: one["weight"] for one in rule["backendRefs"]}


@given(st.integers(0, 100))
def test_weights_sum_to_100_in_every_route(weight):
    route = a_route(weights={STABLE: 100 - weight, CANARY: weight}, gateways=GATEWAYS)
    wanted = {f"chat-{STABLE}": 100 - weight, f"chat-{CANARY}": weight}
    for made in make_http_routes(SERVER, route):
        [main] = made["spec"]["rules"]
        assert shares(main) == {name: share for name, share in wanted.items() if share}
        assert sum(shares(main).values()) == 100


def test_clients_outside_and_inside_have_a_route_each_with_the_same_rules():
    outside, inside = make_http_routes(
        SERVER, a_route(gateways=GATEWAYS, hosts=("chat.example.com",))
    )
    parents = [(one["namespace"], one["name"]) for one in outside["spec"]["parentRefs"]]
    assert parents == [("gateways", "public"), ("models", "internal")]
    assert outside["spec"]["hostnames"] == ["chat.example.com"]
    [parent] = inside["spec"]["parentRefs"]
    assert (parent["group"], parent["kind"], parent["name"]) == ("", "Service", "chat")
    assert "hostnames" not in inside["spec"]
    assert outside["spec"]["rules"] == inside["spec"]["rules"]


def test_experiments_come_before_the_shares():
    route = a_route(
        experiments=(
            an_experiment("first", header={"name": "X-Track", "value": "beta"}),
            an_experiment("second", STABLE, cookie={"name": "track", "value": "old"}),
        )
    )
    first, second, main = rules_of(route)
    [header] = first["matches"][0]["headers"]
    assert header == {"type": "Exact", "name": "X-Track", "value": "beta"}
    [cookie] = second["matches"][0]["headers"]
    assert (cookie["type"], cookie["name"]) == ("RegularExpression", "cookie")
    assert (shares(first), shares(second)) == ({f"chat-{CANARY}": 100}, {f"chat-{STABLE}": 100})
    assert "headers" not in main["matches"][0]


def test_copies_are_a_named_part_of_the_shared_requests_only():
    route = a_route(
        mirror=Mirror(revision=CANARY, percent=10),
        experiments=(an_experiment(header={"name": "a", "value": "b"}),),
    )
    experiment, main = rules_of(route)
    assert "filters" not in experiment
    [mirror] = main["filters"]
    assert mirror["requestMirror"]["fraction"] == {"numerator": 10, "denominator": 100}
    assert mirror["requestMirror"]["backendRef"]["name"] == f"chat-{CANARY}"


def test_users_cannot_be_told_apart():
    with pytest.raises(ValueError, match="HTTPRoutes cannot tell users apart"):
        rules_of(a_route(experiments=(an_experiment(userKeyPercent=20),)))


# -- what the controllers say ----------------------------------------------------------------------


def condition(kind="Accepted", status="True", *, generation=2, **more):
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "reason": more.get("reason", kind),
        "message": more.get("message", ""),
    }


FINE = (condition(), condition("ResolvedRefs"))


def answer(*conditions, name="public", **parent):
    reference = {"name": name, "namespace": "gateways", **parent}
    return {
        "parentRef": {key: value for key, value in reference.items() if value is not None},
        "controllerName": "example.com/controller",
        "conditions": list(conditions),
    }


def in_mesh(*conditions):
    return answer(*conditions, name="chat", kind="Service", group="", namespace=None)


def routes(outside=(), inside=(), *, gateways=("gateways/public",)):
    """As stored, of generation 2, with what was answered about each."""
    made = list(make_http_routes(SERVER, a_route(gateways=gateways)))
    answers = [outside, inside][-len(made) :]
    for route, parents in zip(made, answers, strict=True):
        route["metadata"]["generation"] = 2
        route["status"] = {"parents": list(parents)}
    return made


BAD = condition("Accepted", "False", reason="NotAllowedByListeners", message="no such listener")
UNRESOLVED = condition("ResolvedRefs", "False", reason="BackendNotFound")
CASES = {
    "taken": ([answer(*FINE)], [], ACCEPTED, ""),
    "taken by Gateway and mesh": ([answer(*FINE)], [in_mesh(*FINE)], ACCEPTED, ""),
    "not seen yet": ([], [], PENDING, "has no answer of Gateway gateways/public yet"),
    "an earlier version was taken": (
        [answer(condition(generation=1), condition("ResolvedRefs", generation=1))],
        [],
        PENDING,
        "has not taken its latest version yet",
    ),
    "an earlier version was refused": (
        [answer(condition(status="False", generation=1))],
        [],
        PENDING,
        "has not taken its latest version yet",
    ),
    "half an answer": ([answer(condition())], [], PENDING, "has not taken its latest version"),
    "unknown": ([answer(condition(status="Unknown"), FINE[1])], [], PENDING, "latest version"),
    "refused": (
        [answer(BAD, FINE[1])],
        [],
        REFUSED,
        "by Gateway gateways/public: example.com/controller says Accepted=False, NotAllowedByL",
    ),
    "a backend is not found": ([answer(FINE[0], UNRESOLVED)], [], REFUSED, "BackendNotFound"),
    "a part is left out": (
        [answer(*FINE, condition("PartiallyInvalid", reason="UnsupportedValue"))],
        [],
        REFUSED,
        "PartiallyInvalid=True, UnsupportedValue",
    ),
    "nothing is left out": (
        [answer(*FINE, condition("PartiallyInvalid", "False"))],
        [],
        ACCEPTED,
        "",
    ),
    "another condition of the controller's own": (
        [answer(*FINE, condition("Programmed", "False"))],
        [],
        ACCEPTED,
        "",
    ),
    "the mesh refuses": ([answer(*FINE)], [in_mesh(BAD)], REFUSED, "by Service chat"),
    "one of two controllers refuses": (
        [answer(*FINE), answer(BAD, FINE[1])],
        [],
        REFUSED,
        "NotAllowedByListeners",
    ),
    "only another Gateway answers": (
        [answer(*FINE, name="other")],
        [],
        PENDING,
        "no answer of Gateway gateways/public",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_route_is(case):
    outside, inside, state, message = CASES[case]
    found = acceptance_of(routes(outside, inside))
    assert found.state is state
    assert message in found.message
    assert bool(found.message) is (state is not ACCEPTED)


def test_without_gateways_only_a_mesh_can_take_the_route():
    nothing = acceptance_of(routes(gateways=()))
    assert nothing.state is PENDING
    assert "a mesh that implements the Gateway API must be installed" in nothing.message
    assert acceptance_of(routes(inside=[in_mesh(*FINE)], gateways=())).state is ACCEPTED


def test_every_gateway_must_take_the_route():
    made = routes([answer(*FINE)], gateways=GATEWAYS)
    assert acceptance_of(made).state is PENDING
    made[0]["status"]["parents"].append(answer(*FINE, name="internal", namespace=None))
    assert acceptance_of(made).state is ACCEPTED


def test_no_route_is_no_answer():
    assert acceptance_of([]).state is PENDING
