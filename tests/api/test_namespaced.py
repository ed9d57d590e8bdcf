"""The installation for one namespace: it serves there, and has no rights anywhere else."""

import pytest

from support.fault_proxy import FaultProxy
from support.installation import Installation
from support.kube import path_of
from support.manifests import REPOSITORY, named, render
from support.operator_process import OperatorProcess
from support.servers import Servers

WATCHED = "models"
HOME = "modelserver-namespaced"


@pytest.fixture(scope="module")
def rendered(cluster):
    return render(cluster.kubectl, REPOSITORY / "manifests" / "namespaced")


@pytest.fixture(scope="module")
def namespaced(kube, rendered):
    """Beside the other installation, in a namespace of its own."""
    watched = kube.apply(named(rendered, "Namespace", WATCHED))
    others = [one for one in rendered if one["metadata"]["name"] != WATCHED]
    made = Installation.make(kube, others, HOME)
    yield made
    made.remove()
    kube.delete(path_of(watched))


@pytest.fixture(scope="module")
def operator(namespaced, cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("namespaced")
    with (
        FaultProxy(cluster.url, ca_file=cluster.ca_file) as proxy,
        OperatorProcess(namespaced, proxy, folder, identity="namespaced") as process,
    ):
        yield process


def test_it_serves_where_it_is_asked_to_and_nowhere_else(operator, kube, stage, namespace):
    elsewhere, watched = Servers(kube, namespace), Servers(kube, WATCHED)
    elsewhere.create("chat")
    watched.create("chat")
    watched.wait_settled("chat")
    assert elsewhere.children("chat") == []
    watched.delete("chat")
    watched.wait_gone("chat", timeout=60)


def test_it_is_refused_nothing_and_asks_for_nothing_of_others(operator, namespaced, audit):
    entries = audit.entries(where=lambda entry: entry.user == namespaced.user)
    assert [str(entry) for entry in entries if entry.is_forbidden] == []
    places = {entry.request.namespace for entry in entries if entry.request.resource}
    assert places == {WATCHED, HOME}


def test_the_rights_are_those_of_the_whole_cluster_without_the_cluster(manifests, rendered):
    everywhere = named(manifests, "ClusterRole", "modelserver-operator")
    assert [one for one in rendered if one["kind"].startswith("Cluster")] == []
    here = named(rendered, "Role", "modelserver-operator")
    assert here["rules"] == everywhere["rules"]
    assert here["metadata"]["namespace"] == WATCHED
