"""The API server and the operator's types agree on every resource: refuse, accept, and defaults."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelserver_operator.apis.v1alpha1 import ModelServer, parse_model_server
from modelserver_operator.errors import InvalidResource
from support.definition import install_definition
from support.specs import SERVER_NAMES, SPECS

COLLECTION = "/apis/modelserver.dev/v1alpha1/namespaces/default/modelservers"
DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module", autouse=True)
def definition(kube):
    install_definition(kube)


def manifest_of(name, spec):
    return {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def read(manifest) -> ModelServer | InvalidResource:
    try:
        return parse_model_server(manifest)
    except InvalidResource as refused:
        return refused


def compare(kube, manifest):
    answer = kube.ask("POST", COLLECTION, manifest, params=DRY_RUN)
    ours = read(manifest)
    if answer.is_success:
        assert isinstance(ours, ModelServer), f"only we refuse it: {ours}"
        assert parse_model_server(answer.json()).spec == ours.spec
    else:
        assert answer.status_code in {400, 422}, answer.text
        assert isinstance(ours, InvalidResource), f"only the API server refuses it: {answer.text}"


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=SERVER_NAMES, spec=SPECS)
def test_on_any_resource(kube, name, spec):
    compare(kube, manifest_of(name, spec))


def one_field():
    """A good resource with one field from the strategies: each is looked at by itself."""
    return SPECS.flatmap(
        lambda spec: st.sampled_from(sorted(spec)).map(lambda field: {field: spec[field]})
    )


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=one_field())
def test_on_each_field_by_itself(kube, spec):
    compare(kube, manifest_of("good", {"model": {"uri": "hf://org/model"}, **spec}))


def test_on_the_largest_resource(kube):
    """Every list and map full: the cost of the rules stays within the API server's budget."""
    peer = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/16"] * 16}}
    part = [{"name": f"c{number}", "image": "x"} for number in range(32)]
    labels = {f"example.com/{number}": "x" * 63 for number in range(32)}
    spec = {
        "model": {
            "uri": "hf://" + "o" * 250 + "/" + "m" * 256,
            "aliases": list("abcdefghijklmnop"),
        },
        "extraModels": [
            {
                "name": f"{number}" + "x" * 39,
                "uri": "hf://" + "o" * 250 + "/" + "m" * 256,
                "revision": "f" * 40,
                "aliases": [f"{number}-{alias}-" + "x" * 120 for alias in range(16)],
            }
            for number in range(8)
        ],
        "access": {"apiKeys": {"secretRef": {"name": "x" * 253}}},
        "runtime": {
            "redis": {"url": "redis://" + "x" * 504},
            "env": [{"name": f"V{number}", "value": "x" * 4096} for number in range(64)],
            "args": ["x" * 1024] * 64,
        },
        "resources": {"limits": {f"example.com/{number}": "1" for number in range(16)}},
        "network": {
            "ingressFrom": [peer] * 32,
            "egressTo": [{"to": peer, "ports": [{"port": 1}] * 16}] * 32,
        },
        "podTemplate": {
            "metadata": {"labels": labels, "annotations": dict.fromkeys(labels, "x" * 1024)},
            "spec": {"containers": part, "initContainers": part, "volumes": part},
        },
    }
    compare(kube, manifest_of("x" * 40, spec))
    answer = kube.ask("POST", COLLECTION, manifest_of("x" * 40, spec), params=DRY_RUN)
    assert answer.is_success, answer.text
