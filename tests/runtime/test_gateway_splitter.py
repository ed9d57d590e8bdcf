"""How requests and users are divided."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.errors import InvalidRoute
from modelserver_runtime.gateway.choice import Asker, Chooser
from modelserver_runtime.gateway.route import Route, read_route
from modelserver_runtime.gateway.splitter import Urn, owner, point
from support.web import CANARY, STABLE, route

weights = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 100), min_size=1).filter(
    lambda found: any(found.values())
)
URL = "http://chat"


def route_with(weight: int = 0, **more) -> Route:
    return route(URL, URL, weight, **more)


def asker(*headers: tuple[str, str], address: str = "10.0.0.1") -> Asker:
    return Asker(headers=[(n.encode(), v.encode()) for n, v in headers], address=address)


def key(number: int) -> tuple[str, str]:
    return "authorization", f"Bearer sk-{number}"


@given(weights, st.integers())
def test_an_urn_gives_exactly_the_weights_in_every_filling(given_weights, seed):
    urn = Urn(given_weights, Random(seed))
    divisor = math.gcd(*given_weights.values())
    size = sum(given_weights.values()) // divisor
    for _ in range(2):
        drawn = [urn.draw() for _ in range(size)]
        for name, weight in given_weights.items():
            assert drawn.count(name) == weight // divisor


def test_no_rhythm_of_requests_meets_a_rhythm_of_the_urn():
    """A client whose every second request is of another kind: both kinds get their share."""
    urn = Urn({"stable": 50, "canary": 50}, Random(7))
    drawn = [urn.draw() for _ in range(4000)]
    share = drawn[::2].count("canary") / 2000
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 2000)


@given(st.text(), weights, st.sampled_from("abcd"), st.integers(1, 100))
def test_users_only_come_to_a_revision_whose_weight_rises(user, given_weights, revision, more):
    before = owner(user, given_weights, "salt")
    raised = {**given_weights, revision: given_weights.get(revision, 0) + more}
    assert owner(user, raised, "salt") in {before, revision}


@given(st.text(), st.integers(1, 99), st.integers(1, 99))
def test_users_move_one_way_while_a_canary_grows(user, one, other):
    low, high = sorted((one, other))
    first = owner(user, {"stable": 100 - low, "canary": low}, "salt")
    later = owner(user, {"stable": 100 - high, "canary": high}, "salt")
    assert (first, later) != ("canary", "stable")


def test_users_are_divided_by_the_weights():
    users = [owner(f"user-{number}", {"a": 90, "b": 10}, "salt") for number in range(5000)]
    assert abs(users.count("b") / 5000 - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 5000)


def test_a_point_depends_on_every_name_and_its_place():
    assert len({point("ab", "c"), point("a", "bc"), point("c", "ab")}) == 3


def test_a_share_of_users_grows_without_anybody_leaving():
    def takes_part(percent: int) -> set[int]:
        found = route_with(
            experiments=[{"name": "b", "revision": CANARY, "userKeyPercent": percent}]
        )
        chooser = Chooser(found, Random(1))
        return {n for n in range(400) if chooser.choose(asker(key(n))).experiment}

    few, many = takes_part(10), takes_part(30)
    assert few < many
    assert 0.2 < len(many) / 400 < 0.4


def test_users_without_a_key_are_told_apart_by_their_addresses():
    found = route_with(experiments=[{"name": "b", "revision": CANARY, "userKeyPercent": 50}])
    chooser = Chooser(found, Random(1))
    chosen = {
        chooser.choose(asker(address=f"10.0.0.{number}")).revision
        for _ in range(3)
        for number in range(50)
    }
    assert chosen == {STABLE, CANARY}
    again = [chooser.choose(asker(address="10.0.0.3")).revision for _ in range(5)]
    assert len(set(again)) == 1


@pytest.mark.parametrize(
    ("match", "headers", "revision"),
    [
        ({"header": {"name": "X-Track", "value": "beta"}}, [("x-track", "beta")], CANARY),
        ({"header": {"name": "X-Track", "value": "beta"}}, [("x-track", "beta2")], STABLE),
        ({"cookie": {"name": "t", "value": "b"}}, [("cookie", "a=1; t=b")], CANARY),
        ({"cookie": {"name": "t", "value": "b"}}, [("cookie", "xt=b")], STABLE),
    ],
)
def test_experiments_match_whole_values(match, headers, revision):
    found = route_with(experiments=[{"name": "beta", "revision": CANARY, **match}])
    assert Chooser(found, Random(1)).choose(asker(*headers)).revision == revision


def test_a_cookie_keeps_a_client_until_its_revision_gets_nobody_any_more():
    sticky = {"cookie": "track", "seconds": 60}
    at_canary = asker(("cookie", f"track={CANARY}"))
    chooser = Chooser(route_with(1, sticky=sticky), Random(1))
    kept = [chooser.choose(at_canary) for _ in range(50)]
    assert {one.revision for one in kept} == {CANARY}
    assert not any(one.is_new_cookie for one in kept)
    back = Chooser(route_with(0, sticky=sticky), Random(1)).choose(at_canary)
    assert (back.revision, back.is_new_cookie) == (STABLE, True)


@pytest.mark.parametrize("name", ["header", "userKey"])
def test_the_same_value_goes_to_the_same_revision(name):
    sticky = {"header": "X-User"} if name == "header" else {"userKey": True}
    chooser = Chooser(route_with(50, sticky=sticky), Random(1))
    found = {}
    for number in range(60):
        who = asker(("x-user", str(number)), key(number))
        found[number] = {chooser.choose(who).revision for _ in range(3)}
    assert all(len(one) == 1 for one in found.values())
    assert set().union(*found.values()) == {STABLE, CANARY}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weights": {STABLE: 60}}, "weights must sum to 100, and sum to 60"),
        ({"stable": "00000000"}, "00000000 must be one of the keys of revisions"),
        ({"sticky": {"cookie": "a", "header": "b"}}, "and has cookie, header"),
        ({"experiments": [{"name": "x", "revision": CANARY}]}, "and has none"),
        ({"revisions": {STABLE: {"url": "ftp://x"}}}, "must be http://HOST"),
        ({"timeoutSeconds": 0}, "timeoutSeconds: Input should be greater than 0"),
    ],
)
def test_a_wrong_route_is_refused_with_a_sentence(change, sentence):
    document = {
        "version": "1",
        "server": "chat",
        "stable": STABLE,
        "revisions": {STABLE: {"url": URL}, CANARY: {"url": URL}},
        "weights": {STABLE: 100},
        **change,
    }
    with pytest.raises(InvalidRoute, match=sentence):
        read_route(json.dumps(document).encode())
