"""A ModelServer in, all its objects out: one folder for each story.

`UPDATE_GOLDEN=1 pytest tests/operator/test_golden.py` writes what is planned now; read the diff.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from support.planning import CONFIG, a_server, plan_for

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())


class Plain(yaml.SafeDumper):
    """Without anchors: every object is readable by itself."""

    def ignore_aliases(self, _):
        return True


def planned(case):
    given = yaml.safe_load((GOLDEN / case / "in.yaml").read_text())
    config = replace(CONFIG, **given.get("config", {}))
    plan = plan_for(a_server(given["spec"], name=given["name"]), config=config)
    summary = {
        "targetRevision": plan.target_revision,
        "servingRevision": plan.serving_revision,
        "image": plan.image,
        "resolution": {
            "state": str(plan.resolution.state),
            "commit": plan.resolution.commit,
            "reason": plan.resolution.reason,
            "message": plan.resolution.message,
        },
    }
    return [summary, *(write.manifest for write in plan.writes)]


def dumped(documents):
    return yaml.dump_all(documents, Dumper=Plain, sort_keys=False, width=120)


@pytest.mark.parametrize("case", CASES)
def test_the_objects_of_a_server_are_as_recorded(case):
    recorded = GOLDEN / case / "out.yaml"
    now = planned(case)
    if os.environ.get("UPDATE_GOLDEN"):
        recorded.write_text(dumped(now))
    assert list(yaml.safe_load_all(recorded.read_text())) == now


def test_there_are_stories_of_every_kind_of_child():
    kinds = {document.get("kind") for case in CASES for document in planned(case)[1:]}
    assert kinds == {
        "ControllerRevision",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }
