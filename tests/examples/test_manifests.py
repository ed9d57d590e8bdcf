"""Every example is one story that the API accepts, with a comment that tells it."""

from pathlib import Path

import pytest
import yaml

from modelserver_operator.apis.v1alpha1 import parse_model_server
from modelserver_operator.errors import InvalidResource

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFESTS = sorted(EXAMPLES.glob("*.yaml"))


def one_document(path):
    (document,) = yaml.safe_load_all(path.read_text())
    return document


def test_there_are_examples_to_check():
    assert {"quickstart.yaml", "quickstart-hub.yaml", "sentiment.yaml"} <= {
        path.name for path in MANIFESTS
    }


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_example_is_accepted_as_written(path):
    server = parse_model_server(one_document(path))
    written = server.model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert written["spec"] == one_document(path)["spec"], "something was read as something else"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_example_with_a_typing_error_is_not(path):
    document = one_document(path)
    document["spec"]["modle"] = {}
    with pytest.raises(InvalidResource, match="modle"):
        parse_model_server(document)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_example_tells_its_story_first(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40


def test_names_do_not_collide_except_for_the_two_quickstarts():
    names = [one_document(path)["metadata"]["name"] for path in MANIFESTS]
    assert sorted(names) == sorted([*set(names), "quickstart"])


def test_the_shortest_has_five_lines():
    lines = (EXAMPLES / "sentiment.yaml").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) == 5
