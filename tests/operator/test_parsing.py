"""Reading stored resources: the same rules as the API server's, and what they do not cover."""

from pathlib import Path

import pytest
import yaml

from modelserver_operator.apis.status import ConditionType
from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.errors import InvalidResource
from support.planning import a_manifest

ROWS = yaml.safe_load((Path(__file__).parents[1] / "api" / "bad_yaml.yaml").read_text())


def manifest_of(row):
    manifest = a_manifest({"model": {"uri": "hf://org/model"}, **row["spec"]})
    manifest["metadata"]["name"] = row.get("name", "bad")
    if row.get("bare"):
        manifest["spec"] = row["spec"]
    return manifest


@pytest.mark.parametrize("row", ROWS, ids=[row["case"] for row in ROWS])
def test_what_the_api_server_refuses_is_not_read_either(row):
    with pytest.raises(InvalidResource):
        parse_model_server(manifest_of(row))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"model": {"uri": "x"}}, "spec.model: uri must be hf://organisation/name, pvc://claim"),
        ({"replicas": "2"}, "spec.replicas: Input should be a valid integer"),
        ({"later": 1}, "spec.later: Extra inputs are not permitted"),
        ({"engine": "Custom"}, "spec: engine Custom requires runtime.image"),
    ],
)
def test_the_message_names_the_field(spec, message):
    with pytest.raises(InvalidResource) as refused:
        parse_model_server(a_manifest(spec))
    assert str(refused.value).startswith(message)


def test_what_else_is_in_metadata_does_not_matter():
    manifest = a_manifest()
    manifest["metadata"] |= {"managedFields": [{"manager": "x"}], "labels": {"a": "b"}}
    assert parse_model_server(manifest).name == "chat"


def test_defaults_are_filled_in():
    server = parse_model_server(a_manifest())
    assert server.spec.replicas == 1
    assert server.served_name == "chat"
    assert server.status.observed_generation == 0


def test_a_status_that_cannot_be_read_counts_as_none():
    server = parse_model_server(a_manifest(status={"conditions": "odd", "replicas": 2}))
    assert server.status.replicas == 0
    assert server.status.condition(ConditionType.READY) is None


def test_fields_of_status_that_are_not_known_any_more_do_not_matter():
    server = parse_model_server(a_manifest(status={"servingRevision": "abc", "gone": 1}))
    assert server.status.serving_revision == "abc"


def test_parts_of_the_pod_template_that_we_do_not_know_are_kept():
    spec = {"hostAliases": [{"ip": "1.1.1.1"}], "containers": [{"name": "a", "tty": True}]}
    server = parse_model_server(a_manifest({"podTemplate": {"spec": spec}}))
    dumped = server.spec.pod_template.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert dumped == {"spec": spec}
