"""Definitions that come and go while the operator runs: it needs no restart, and none is missed."""

import pytest

from devcluster import definitions
from devcluster.definitions import BundleName
from support.kube import path_of
from support.servers import pinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stage")

ROUTES = {"destinationrules", "virtualservices", "httproutes"}

# The operator looks every half minute, and takes nothing for gone that was missing only once.
NOTICED_SECONDS = 180


def watched(operator):
    return ROUTES & {request.resource for request in operator.proxy.open_watches}


def wait_until_watched(operator, wanted):
    wait_until(
        lambda: watched(operator) == wanted,
        timeout=NOTICED_SECONDS,
        what=f"watches of {', '.join(sorted(wanted)) or 'no optional kind'}",
    )


@pytest.fixture
def definition(kube):
    """That of HTTPRoutes; it is there again afterwards, whatever happened."""
    found = definitions.definitions(BundleName.GATEWAY_API)
    manifest = next(one for one in found if one["spec"]["names"]["kind"] == "HTTPRoute")
    yield manifest
    restore(kube, manifest)


def restore(kube, definition):
    """One that is still being deleted cannot be kept: it must have gone first."""
    path = path_of(definition)
    if (kube.get(path) or {"metadata": {}})["metadata"].get("deletionTimestamp"):
        kube.wait_gone(path, timeout=300)
    kube.apply(definition)
    collection = "/apis/gateway.networking.k8s.io/v1/httproutes"
    wait_until(lambda: kube.get(collection), timeout=60, what="HTTPRoutes are served")


@pytest.mark.timeout(900)
def test_a_definition_goes_and_comes_back(kube, operator, servers, definition):
    wait_until_watched(operator, ROUTES)
    process = operator.pid
    kube.delete(path_of(definition))
    wait_until_watched(operator, ROUTES - {"httproutes"})
    servers.create("chat", pinned())
    servers.wait_settled("chat")
    restore(kube, definition)
    wait_until_watched(operator, ROUTES)
    assert operator.pid == process
    assert operator.is_running
