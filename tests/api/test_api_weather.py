"""An API server in trouble: the process lives on, does not storm, and converges afterwards.

`MODELSERVER_TEST_LONG=1` makes the weather last longer, and tries more kinds of it.
"""

import itertools
import os
import threading
import time
from collections import Counter

import pytest

from support.servers import pinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stage")

# Nine kinds are watched and one Lease is renewed every half second; backing off, each may ask
# about once a second. A hot loop asks hundreds of times.
MOST_REQUESTS_PER_SECOND = 40
IS_LONG = bool(os.environ.get("MODELSERVER_TEST_LONG"))
BAD_SECONDS = 10 if IS_LONG else 2
BROKEN = 0  # the connection ends without an answer


def statuses(*always: int, rarely: tuple[int, ...] = ()) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("status", [*always, *(rarely if IS_LONG else ())])


@pytest.fixture
def weather(operator, servers):
    """The operator's proxy; afterwards the same process must serve a new server."""
    pid = operator.pid
    operator.wait_ready()
    servers.create("before")
    servers.wait_settled("before")
    yield operator.proxy
    operator.proxy.calm()
    servers.create("after")
    servers.wait_settled("after")
    servers.patch("before", {"replicas": 2})
    servers.wait_settled("before")
    assert (operator.pid, operator.is_running) == (pid, True)
    assert operator.probe("/livez") == 200


def is_of_the_storm(seen):
    """What is asked again because of it; the work that goes on is not counted."""
    return seen.request.verb in {"list", "watch"} or not seen.succeeded


class Storm:
    """Bad weather for a while; how many requests it drew."""

    def __init__(self, proxy, seconds=BAD_SECONDS, most=MOST_REQUESTS_PER_SECOND):
        self._proxy = proxy
        self._seconds = seconds
        self._most = most

    def __enter__(self):
        self._began, self._seen = time.monotonic(), len(self._proxy.seen)

    def __exit__(self, kind, *_):
        if kind is not None:
            return
        left = self._seconds - (time.monotonic() - self._began)
        threading.Event().wait(max(left, 0))
        seconds = time.monotonic() - self._began
        drawn = Counter(map(str, filter(is_of_the_storm, self._proxy.seen[self._seen :])))
        rate = drawn.total() / seconds
        assert rate <= self._most, f"{rate:.0f}/s: {drawn.most_common(5)}"


@statuses(503, BROKEN, rarely=(500, 429))
def test_lists_that_fail_for_a_while(weather, servers, status):
    with weather.failing(status, verbs={"list"}) as failure, Storm(weather), weather.blackout():
        servers.create("meanwhile")
    assert failure.met > 0, "nothing was listed: this test proves nothing"
    servers.wait_settled("meanwhile")


@statuses(503, rarely=(BROKEN,))
def test_an_api_server_that_is_gone_for_a_while(weather, servers, status):
    with weather.failing(status) as failure, Storm(weather):
        weather.cut_watches()
        servers.create("meanwhile")
    assert failure.met > 0
    servers.wait_settled("meanwhile")


@statuses(410, 429, 500, 504)
def test_error_events_in_every_watch(weather, servers, status):
    with Storm(weather):
        for number in range(3):
            wait_until(lambda: weather.send_error(status) > 0, timeout=20, what="a watch to spoil")
            servers.create(f"meanwhile-{number}")
    for number in range(3):
        servers.wait_settled(f"meanwhile-{number}")


@statuses(410, 503, rarely=(500, 429))
def test_watches_that_are_refused_for_a_while(weather, servers, status):
    with weather.failing(status, verbs={"watch"}) as failure, Storm(weather):
        weather.cut_watches()
        servers.create("meanwhile")
    assert failure.met > 0
    servers.wait_settled("meanwhile")


def test_a_storm_of_blackouts_that_each_end_in_gone(weather, servers):
    with Storm(weather):
        for number in range(4):
            with weather.blackout():
                servers.create(f"meanwhile-{number}")
    for number in range(4):
        servers.wait_settled(f"meanwhile-{number}")


def test_a_list_in_pages_whose_next_page_expired(weather, servers):
    for number in range(3):
        servers.create(f"more-{number}")
        servers.wait_settled(f"more-{number}")
    weather.page_size = 2
    expired = weather.fail(410, where=lambda request: request.is_continued, times=12)
    with Storm(weather, most=3 * MOST_REQUESTS_PER_SECOND), weather.blackout():
        servers.create("meanwhile")
    wait_until(lambda: expired.met >= 3, timeout=20, what="expired pages")
    servers.wait_settled("meanwhile")


@statuses(409, 500, BROKEN, rarely=(503, 429))
def test_calls_that_fail_a_few_times(weather, servers, status):
    """Creating, changing and scaling down need all of these verbs."""
    failures = [
        weather.fail(status, verbs={verb}, where=is_not_of_the_lease, times=2)
        for verb in ("get", "create", "patch", "delete")
    ]
    servers.create("meanwhile", pinned(replicas=2))
    servers.wait_settled("meanwhile")
    budget = f"meanwhile-{servers.status('meanwhile')['servingRevision']}"
    servers.patch("meanwhile", {"replicas": 1})
    wait_until(
        lambda: servers.child("PodDisruptionBudget", budget) is None, timeout=60, what="no budget"
    )
    assert [failure.met for failure in failures] == [2, 2, 2, 2]


def is_not_of_the_lease(request):
    return request.resource != "leases"


def test_retry_after_is_heeded(weather, servers):
    """No second try of the same write before the time that the server asked for."""
    refused = weather.fail(429, verbs={"patch"}, retry_after=2, times=3)
    seen = len(weather.seen)
    servers.create("meanwhile")
    servers.wait_settled("meanwhile")
    assert refused.met == 3
    answers = [w for w in weather.writes(seen) if w.request.name.startswith("meanwhile")]
    for earlier, later in itertools.pairwise(answers):
        if earlier.status == 429:
            assert later.at - earlier.at >= 1.9, f"{earlier}, then {later}"


def test_answers_that_get_lost_after_the_write(weather, servers, operator):
    """The API server has done it, the operator does not know."""

    class Nobody:
        def kill(self):
            pass

    for number in (2, 4, 6):
        point = weather.kill_at(number, "after", Nobody())
        servers.create(f"lost-{number}")
        servers.wait_settled(f"lost-{number}")
        assert point.done.is_set()
        uids = [pod["metadata"]["uid"] for pod in servers.pods(f"lost-{number}")]
        assert len(uids) == 1


def test_a_token_that_rotates(weather, servers, operator):
    old = operator.renew_token()
    weather.revoke(old)
    weather.cut_watches()
    servers.create("meanwhile")
    servers.wait_settled("meanwhile")


def test_a_token_that_expires_before_the_next_one_comes(weather, servers, operator):
    with Storm(weather):
        weather.revoke(operator.token)
        weather.cut_watches()
        servers.create("meanwhile")
    operator.renew_token()
    servers.wait_settled("meanwhile")


def test_a_crd_that_is_deleted_and_created_again(weather, servers, operator, manifests, kube):
    (definition,) = [m for m in manifests if m["kind"] == "CustomResourceDefinition"]
    path = (
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}"
    )
    with Storm(weather, seconds=6):
        kube.delete(path)
        kube.wait_gone(path)
        wait_until(lambda: not servers.children("before"), timeout=30, what="children collected")
    kube.apply(definition)
    wait_until(lambda: kube.ask("GET", servers.collection).is_success, timeout=30, what="served")
    servers.create("before")
    servers.wait_settled("before")


def test_requests_that_arrive_out_of_time_change_nothing(weather, servers):
    """A write that is long on its way meets an object that has moved on, and is refused."""
    postponed = weather.postpone(lambda r: r.verb == "patch" and r.resource == "services")
    servers.create("slow")
    assert postponed.arrived.wait(20)
    weather.release(postponed)
    servers.wait_settled("slow")
    assert postponed.answered.wait(10)
