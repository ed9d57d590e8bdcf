"""Kinds that come and go: what a schema must have, and informers only where there is something."""

import asyncio
from contextlib import suppress

import pytest

from modelserver_operator.cluster.client import ObjectName, Page
from modelserver_operator.cluster.discovery import (
    RESOURCE_METRICS,
    WRITTEN_FIELDS,
    Discovery,
    capabilities_of,
)
from modelserver_operator.cluster.optional import LOOK_SECONDS, OptionalInformers
from modelserver_operator.cluster.store import child_store
from modelserver_operator.errors import Forbidden, NotFound, Unavailable
from modelserver_operator.resources.kinds import (
    DESTINATION_RULE,
    HTTP_ROUTE,
    OPTIONAL_KINDS,
    VIRTUAL_SERVICE,
)

pytestmark = pytest.mark.looptime

ISTIO, GATEWAY_API = VIRTUAL_SERVICE.api_version, HTTP_ROUTE.api_version
CHAT = ObjectName("default", "chat")
ROUTE = {
    "apiVersion": GATEWAY_API,
    "kind": "HTTPRoute",
    "metadata": {
        "name": "chat",
        "namespace": "default",
        "uid": "uid-chat",
        "resourceVersion": "5",
        "labels": {"modelserver.dev/server": "chat"},
    },
}


def schema_of(kind, without=""):
    """As the API server publishes it: lists between the fields, as they come."""
    root = {}
    for path in WRITTEN_FIELDS[kind]:
        here, parts = root, path.split(".")
        for part in parts[:-1] if path == without else parts:
            below = here.setdefault("properties", {})
            is_list = part in {"http", "mirrors", "rules", "filters"}
            entry = below.setdefault(part, {"items": {}} if is_list else {})
            here = entry["items"] if is_list else entry
    group, _, version = kind.api_version.partition("/")
    identity = {"group": group, "version": version, "kind": kind.kind}
    return {**root, "x-kubernetes-group-version-kind": [identity]}


def document_of(*kinds, without=""):
    schemas = {f"schema-{kind.kind}": schema_of(kind, without) for kind in kinds}
    return {"components": {"schemas": {**schemas, "list": {"type": "object"}}}}


def test_a_schema_that_has_every_field_can_be_written():
    found = capabilities_of(ISTIO, document_of(DESTINATION_RULE, VIRTUAL_SERVICE))
    assert found.kinds == {DESTINATION_RULE, VIRTUAL_SERVICE}
    assert found.outdated == {}


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, paths in WRITTEN_FIELDS.items() for path in paths]
)
def test_a_schema_that_lacks_a_field_cannot(kind, path):
    found = capabilities_of(kind.api_version, document_of(kind, without=path))
    assert found.kinds == frozenset()
    assert found.outdated == {kind: path}


def test_a_group_of_which_only_a_part_is_installed():
    found = capabilities_of(ISTIO, document_of(VIRTUAL_SERVICE))
    assert found.kinds == {VIRTUAL_SERVICE}


class Cluster:
    """`served` are its kinds; each change is another hash in the addresses of the schemas."""

    def __init__(self, *served):
        self.served, self.changes, self.asked = set(served), 0, []
        self.failures, self.refusals = [], {}
        self.metrics_failure = NotFound("the server could not find the requested resource")
        self.watched = []
        self.changed = asyncio.Event()

    def resource_metrics(self):
        if self.metrics_failure is not None:
            raise self.metrics_failure
        return {}

    def change(self, *served):
        self.served, self.changes = set(served), self.changes + 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def discover(self, path):
        self.asked.append(path)
        if self.failures:
            raise self.failures.pop(0)
        if path == RESOURCE_METRICS:
            return self.resource_metrics()
        if path != "/openapi/v3":
            version = path.removeprefix("/openapi/v3/apis/")
            return document_of(*(one for one in self.served if one.api_version == version))
        versions = {kind.api_version for kind in self.served}
        addresses = {
            f"apis/{one}": f"/openapi/v3/apis/{one}?hash={self.changes}" for one in versions
        }
        return {"paths": {key: {"serverRelativeURL": url} for key, url in addresses.items()}}

    async def list_page(self, kind, _namespace, **_):
        if kind in self.refusals:
            raise self.refusals[kind]
        if kind not in self.served:
            raise NotFound(
                "the server could not find the requested resource", status=404, reason="NotFound"
            )
        items = [ROUTE] if kind is HTTP_ROUTE else []
        return Page(items=items, version="7", next_page="")

    async def watch(self, kind, _namespace, **_):
        self.watched.append(kind)
        try:
            while kind in self.served:
                await self.changed.wait()
            yield b'{"type": "ERROR", "object": {"code": 404, "reason": "NotFound"}}'
        finally:
            self.watched.remove(kind)


class Replica:
    """What the shell is told."""

    def __init__(self):
        self.news, self.told = [], []

    def changed(self, servers):
        self.news.extend(servers)

    def restarted(self, kind, cause):
        pass

    def capable(self, capabilities):
        self.told.append(capabilities)

    @property
    def kinds(self):
        return self.told[-1].kinds if self.told else frozenset()


@pytest.fixture
async def run():
    tasks = []

    async def start(cluster):
        replica = Replica()
        stores = {kind.kind: child_store() for kind in OPTIONAL_KINDS}
        optional = OptionalInformers(cluster, stores, replica, replica.capable, namespaces=())
        tasks.append(asyncio.create_task(optional.run()))
        return optional, replica, stores

    yield start
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_cluster_without_them_is_settled_and_watches_nothing(run):
    cluster = Cluster()
    optional, replica, _ = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 5)
    assert (replica.told, cluster.watched, optional.informers) == ([], [], [])


async def test_what_is_there_is_told_only_when_it_is_listed(run):
    cluster = Cluster(*OPTIONAL_KINDS)
    cluster.refusals[HTTP_ROUTE] = Unavailable("busy", status=503)
    optional, replica, stores = await run(cluster)
    await asyncio.sleep(5)
    assert replica.kinds == set(OPTIONAL_KINDS) - {HTTP_ROUTE}
    assert not optional.settled.is_set()
    del cluster.refusals[HTTP_ROUTE]
    await asyncio.wait_for(optional.settled.wait(), 60)
    assert replica.kinds == set(OPTIONAL_KINDS)
    assert len(stores["HTTPRoute"]) == 1


async def test_what_comes_later_is_found_without_a_restart(run):
    cluster = Cluster()
    optional, replica, _ = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 5)
    cluster.change(HTTP_ROUTE)
    await asyncio.sleep(1.2 * LOOK_SECONDS)
    assert replica.kinds == {HTTP_ROUTE}
    assert cluster.watched == [HTTP_ROUTE]
    assert CHAT in replica.news


async def test_what_goes_is_forgotten_and_no_longer_asked_for(run):
    cluster = Cluster(*OPTIONAL_KINDS)
    optional, replica, stores = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 5)
    replica.news.clear()
    cluster.change(DESTINATION_RULE, VIRTUAL_SERVICE)
    await asyncio.sleep(3 * LOOK_SECONDS)
    assert replica.kinds == {DESTINATION_RULE, VIRTUAL_SERVICE}
    assert len(stores["HTTPRoute"]) == 0
    assert replica.news == [CHAT]
    assert sorted(one.kind for one in cluster.watched) == ["DestinationRule", "VirtualService"]
    assert {one.kind for one in optional.informers} == {DESTINATION_RULE, VIRTUAL_SERVICE}
    cluster.change(*OPTIONAL_KINDS)
    await asyncio.sleep(1.2 * LOOK_SECONDS)
    assert replica.kinds == set(OPTIONAL_KINDS)
    assert len(stores["HTTPRoute"]) == 1


async def test_an_answer_without_it_once_takes_nothing_away(run):
    """A server that has just started does not publish all of its definitions yet."""
    cluster = Cluster(HTTP_ROUTE)
    optional, replica, _ = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 5)
    shown, cluster.discover = cluster.discover, hiding(cluster)
    await asyncio.sleep(1.2 * LOOK_SECONDS)
    cluster.discover = shown
    await asyncio.sleep(3 * LOOK_SECONDS)
    assert [one.kinds for one in replica.told] == [{HTTP_ROUTE}]


def hiding(cluster):
    async def discover(path):
        cluster.asked.append(path)
        return cluster.resource_metrics() if path == RESOURCE_METRICS else {"paths": {}}

    return discover


async def test_while_nobody_answers_everything_stays_as_it_is(run):
    cluster = Cluster(HTTP_ROUTE)
    optional, replica, _ = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 5)
    cluster.failures = [Unavailable("no answer")] * 20
    await asyncio.sleep(5 * LOOK_SECONDS)
    assert [one.kinds for one in replica.told] == [{HTTP_ROUTE}]
    assert cluster.watched == [HTTP_ROUTE]


async def test_a_kind_that_may_not_be_listed_keeps_nobody_waiting(run):
    cluster = Cluster(HTTP_ROUTE)
    cluster.refusals[HTTP_ROUTE] = Forbidden("no", status=403, reason="Forbidden")
    optional, replica, _ = await run(cluster)
    await asyncio.wait_for(optional.settled.wait(), 30)
    assert replica.kinds == frozenset()


async def test_schemas_are_read_again_only_when_they_have_changed():
    cluster = Cluster(HTTP_ROUTE)
    discovery = Discovery(cluster)
    for _ in range(3):
        assert (await discovery.look()).kinds == {HTTP_ROUTE}
    assert cluster.asked.count(f"/openapi/v3/apis/{GATEWAY_API}") == 1
    cluster.change(HTTP_ROUTE)
    await discovery.look()
    assert cluster.asked.count(f"/openapi/v3/apis/{GATEWAY_API}") == 2


async def test_resource_metrics_are_found_and_missed_but_not_while_they_only_do_not_answer(run):
    cluster = Cluster()
    cluster.metrics_failure = None
    _, replica, _ = await run(cluster)
    await asyncio.sleep(1)
    assert replica.told[-1].has_resource_metrics
    cluster.metrics_failure = Unavailable("no endpoints available", status=503)
    await asyncio.sleep(1.2 * LOOK_SECONDS)
    assert replica.told[-1].has_resource_metrics
    cluster.metrics_failure = NotFound("the server could not find the requested resource")
    await asyncio.sleep(1.2 * LOOK_SECONDS)
    assert not replica.told[-1].has_resource_metrics
