"""The informer against a scripted API, in simulated time: it never ends and never keeps a ghost."""

import asyncio
import json
from contextlib import suppress
from itertools import pairwise

import pytest

from modelserver_operator.cluster.client import ObjectName, Page
from modelserver_operator.cluster.informer import RELIST_SECONDS, Informer
from modelserver_operator.cluster.store import child_store
from modelserver_operator.errors import Expired, Forbidden, Unavailable
from modelserver_operator.resources.kinds import SERVICE

pytestmark = pytest.mark.looptime

CHAT = ObjectName("default", "chat")


def service(name, version, server="chat"):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": {"modelserver.dev/server": server},
        },
    }


def event(kind, thing):
    return json.dumps({"type": kind, "object": thing}).encode()


def bookmark(version):
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def error(code):
    return event("ERROR", {"code": code, "reason": "Because", "message": "injected"})


class Cut(Exception):
    """In a script: the connection breaks."""


class ScriptedApi:
    """Each list and each watch takes its next script; afterwards watches stay open and silent."""

    def __init__(self, lists, watches):
        self.lists, self.watches = list(lists), list(watches)
        self.asked = []

    async def list_page(self, _kind, _namespace, *, after="", **_):
        self.asked.append(("list", after, asyncio.get_running_loop().time()))
        answer = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(self, _kind, _namespace, *, since, **_):
        self.asked.append(("watch", since, asyncio.get_running_loop().time()))
        script = self.watches.pop(0) if self.watches else [None]
        for line in script:
            match line:
                case None:
                    await asyncio.Event().wait()
                case Exception():
                    raise line
                case int() | float():
                    await asyncio.sleep(line)
                case _:
                    yield line


class Seen:
    def __init__(self):
        self.news, self.restarts = [], []

    def changed(self, servers):
        self.news.extend(sorted(servers, key=lambda one: one.name))

    def restarted(self, _kind, cause):
        self.restarts.append(cause)


def page(*items, version, after=""):
    return Page(items=list(items), version=str(version), next_page=after)


async def follow(lists, watches, *, seconds=30.0):
    api, store, seen = ScriptedApi(lists, watches), child_store(), Seen()
    informer = Informer(api, store, seen, kind=SERVICE, namespace="")
    running = asyncio.create_task(informer.run())
    await asyncio.sleep(seconds)
    assert not running.done(), running
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return api, sorted(where.name for where in store), seen, informer


def asked(api, what):
    return [since for kind, since, _ in api.asked if kind == what]


async def test_it_lists_and_then_watches_from_that_version():
    api, names, seen, informer = await follow(
        [page(service("a", 1), version=5)], [[event("ADDED", service("b", 6)), None]]
    )
    assert names == ["a", "b"]
    assert asked(api, "watch") == ["5"]
    assert seen.news == [CHAT, CHAT]
    assert informer.synced.is_set()


async def test_a_list_in_pages_is_one_list():
    pages = [page(service("a", 1), version=5, after="more"), page(service("b", 2), version=5)]
    api, names, *_ = await follow(pages, [])
    assert names == ["a", "b"]
    assert asked(api, "list") == ["", "more"]


async def test_objects_deleted_while_the_watch_had_expired_are_not_kept():
    lists = [
        page(service("a", 1), service("ghost", 2), version=5),
        page(service("a", 1), version=9),
    ]
    _, names, seen, _ = await follow(lists, [[error(410)], [None]])
    assert names == ["a"]
    assert seen.restarts == ["Because"]
    assert seen.news[-1] == CHAT


@pytest.mark.parametrize("code", [500, 504, 429, 403])
async def test_no_error_event_ends_it(code):
    api, names, seen, _ = await follow([page(service("a", 1), version=5)], [[error(code)], [None]])
    assert names == ["a"]
    assert len(asked(api, "list")) == 2
    assert len(seen.restarts) == 1


async def test_a_cut_connection_is_continued_from_where_it_was():
    cut = Unavailable("connection reset")
    api, names, *_ = await follow(
        [page(version=5)],
        [[event("ADDED", service("a", 6)), cut], [event("ADDED", service("b", 7)), None]],
    )
    assert asked(api, "watch") == ["5", "6"]
    assert len(asked(api, "list")) == 1
    assert names == ["a", "b"]


async def test_bookmarks_move_the_place_to_continue_from():
    api, *_ = await follow([page(version=5)], [[bookmark(50), 2.0], [None]])
    assert asked(api, "watch") == ["5", "50"]


async def test_failing_lists_are_repeated_with_growing_pauses_until_one_works():
    down = Unavailable("down", status=503)
    lists = [*[down] * 8, page(service("a", 1), version=5)]
    api, names, _, informer = await follow(lists, [], seconds=120)
    times = [at for kind, _, at in api.asked if kind == "list"]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert names == ["a"]
    assert informer.synced.is_set()
    assert pauses[0] < 0.3
    assert pauses[-1] > 3


async def test_a_storm_of_410_is_weathered_slowly():
    lists = [page(service("a", 1), version=5)]
    api, *_ = await follow(lists, [[error(410)]] * 1000, seconds=60)
    assert len(asked(api, "list")) < 20


async def test_an_expired_continue_token_begins_the_list_again():
    lists = [
        page(service("a", 1), version=5, after="more"),
        Expired("token", status=410),
        page(service("a", 1), version=6),
    ]
    api, names, *_ = await follow(lists, [])
    assert asked(api, "list") == ["", "more", ""]
    assert names == ["a"]


async def test_news_of_the_first_page_is_told_though_the_next_one_has_expired():
    """The store knows the object then, and the list that works has nothing new to say of it."""
    lists = [
        page(service("a", 1), version=5),
        page(service("a", 7), version=8, after="more"),
        Expired("token", status=410),
        page(service("a", 7), version=9),
    ]
    _, _, seen, _ = await follow(lists, [[error(410)], [None]])
    assert seen.news == [CHAT, CHAT]


async def test_retry_after_is_obeyed():
    busy = Unavailable("busy", status=429, retry_after_seconds=7)
    api, *_ = await follow([busy, page(version=5)], [])
    assert [at for kind, _, at in api.asked if kind == "list"] == [0, 7]


@pytest.mark.parametrize("line", [b"<html>", b"[]", b'{"type": "ADDED"}'])
async def test_an_answer_of_something_else_than_an_api_server_does_not_end_it(line):
    api, names, *_ = await follow([page(service("a", 1), version=5)], [[line], [None]])
    assert names == ["a"]
    assert len(asked(api, "watch")) == 2


async def test_a_forbidden_list_is_tried_again():
    lists = [Forbidden("no", status=403), page(service("a", 1), version=5)]
    _, names, *_ = await follow(lists, [])
    assert names == ["a"]


async def test_watches_that_end_at_once_are_not_a_hot_loop():
    api, *_ = await follow([page(version=5)], [[]] * 1000, seconds=60)
    assert len(asked(api, "watch")) < 20


async def test_it_lists_from_time_to_time_even_if_nothing_went_wrong():
    lists = [page(service("missed", 1), version=5), page(version=9)]
    watches = [[RELIST_SECONDS + 10.0], [None]]
    _, names, *_ = await follow(lists, watches, seconds=RELIST_SECONDS + 60)
    assert names == []


async def test_only_a_stuck_informer_is_silent():
    *_, informer = await follow([page(version=5)], [[20.0, bookmark(6), None]], seconds=30)
    assert informer.silent_seconds(asyncio.get_running_loop().time()) == 10
    down = Unavailable("down", status=503)
    *_, informer = await follow([down], [], seconds=300)
    assert informer.silent_seconds(asyncio.get_running_loop().time()) < 15
