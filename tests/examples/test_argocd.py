"""What `examples/argocd` puts into Git is accepted; `tests/api` runs its Application."""

from pathlib import Path

import pytest
import yaml

from modelserver_operator.apis.v1alpha1 import parse_model_server

EXAMPLES = Path(__file__).parents[2] / "examples" / "argocd"
MODELS = sorted((EXAMPLES / "models").glob("*.yaml"))


def test_there_is_a_model_in_git():
    assert MODELS


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_in_git_is_accepted_as_written(path):
    (document,) = yaml.safe_load_all(path.read_text())
    assert "namespace" not in document["metadata"], "the Application says where"
    server = parse_model_server(document)
    written = server.model_dump(by_alias=True, exclude_unset=True, mode="json")
    assert written["spec"] == document["spec"], "something was read as something else"


def test_the_application_excuses_no_difference():
    (application,) = yaml.safe_load_all((EXAMPLES / "application.yaml").read_text())
    assert "ignoreDifferences" not in application["spec"]
    assert application["spec"]["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
