"""HPA, ScaledObject and the holder's slice, on a real API server with KEDA's real definition.

What is read back must be what was written, or the operator would write for ever.
"""

import pytest

from devcluster import definitions
from devcluster.definitions import BundleName
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.plan.drift import FIELD_MANAGER, differences
from modelserver_operator.resources.holder_slice import SERVICE_NAME, make_holder_slices
from modelserver_operator.resources.service import make_root_service
from support.autoscalers import PODS, REVISION, STORIES, objects_of, scaling_of
from support.kube import path_of
from support.servers import pinned
from support.waiting import wait_until

NAMES = sorted(path.name for path in STORIES.iterdir())
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module", autouse=True)
def keda(cluster):
    definitions.install_definitions(cluster, [BundleName.KEDA], kinds=["ScaledObject"])


@pytest.fixture
def server(servers):
    """With an owner that exists, so that nothing is collected as an orphan."""
    return parse_model_server(servers.create("chat", pinned()))


@pytest.mark.parametrize("story", NAMES)
def test_every_field_is_known_to_the_api_server_and_comes_back_as_it_was(kube, server, story):
    made = [one for many in objects_of(server, scaling_of(story)).values() for one in many]
    assert made
    for manifest in made:
        answer = kube.ask("POST", path_of(manifest, collection=True), manifest, params=STRICT)
        assert answer.status_code == 201, answer.text
        assert "Warning" not in answer.headers
        kube.apply(manifest, manager=FIELD_MANAGER)
        assert list(differences(manifest, kube.get(path_of(manifest)))) == []


def test_the_controller_of_slices_leaves_the_holders_alone(kube, server):
    service = make_root_service(server, REVISION)
    kube.apply(service, manager=FIELD_MANAGER)
    held = list(make_holder_slices(server, PODS, port=20_001))
    for manifest in held:
        kube.apply(manifest, manager=FIELD_MANAGER)
    collection = path_of(held[0], collection=True)
    names = {one["metadata"]["name"] for one in held}

    def the_controllers_own():
        found = kube.items(collection, f"{SERVICE_NAME}={server.name}")
        return [one for one in found if one["metadata"]["name"] not in names]

    wait_until(the_controllers_own, timeout=120, what="a slice of the Service's own pods")
    for manifest in held:
        observed = kube.get(path_of(manifest))
        assert list(differences(manifest, observed)) == []
        assert observed["endpoints"] == manifest["endpoints"]
