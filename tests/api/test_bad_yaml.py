"""Wrong resources are refused at `kubectl apply`, with a sentence that says what to write."""

from pathlib import Path

import pytest
import yaml

from support.definition import install_definition

ROWS = yaml.safe_load((Path(__file__).parent / "bad_yaml.yaml").read_text())
GOOD_MODEL = {"model": {"uri": "hf://org/model"}}
COLLECTION = "/apis/modelserver.dev/v1alpha1/namespaces/default/modelservers"
ENOUGH_ROWS = 100


@pytest.fixture(scope="module", autouse=True)
def definition(kube):
    install_definition(kube)


def manifest_of(row):
    spec = row["spec"] if row.get("bare") else {**GOOD_MODEL, **row["spec"]}
    return {
        "apiVersion": "modelserver.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": row.get("name", "bad"), "namespace": "default"},
        "spec": spec,
    }


def test_there_are_enough_rows():
    assert len(ROWS) >= ENOUGH_ROWS
    assert len({row["case"] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["case"] for row in ROWS])
def test_the_api_server_refuses_it_with_the_sentence(row, kube):
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = kube.ask("POST", COLLECTION, manifest_of(row), params=query)
    assert answer.status_code in {400, 422}, answer.text
    assert row["says"] in answer.json()["message"]
