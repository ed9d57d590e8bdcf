"""A route in, the objects of each router out: one folder for each story.

`UPDATE_GOLDEN=1 pytest tests/operator/test_route_golden.py` writes what is made now; read the diff.
"""

import os

import pytest
import yaml

from modelserver_operator.apis.traffic import Router
from support.routes import STORIES, children_of, story

CASES = [
    (path.name, router) for path in sorted(STORIES.iterdir()) for router in story(path.name)[2]
]
FILES = {
    Router.GATEWAY: "router.yaml",
    Router.ISTIO: "istio.yaml",
    Router.GATEWAY_API: "gateway_api.yaml",
}


class Plain(yaml.SafeDumper):
    """Without anchors: every object is readable by itself."""

    def ignore_aliases(self, _):
        return True


@pytest.mark.parametrize(("case", "router"), CASES)
def test_the_objects_of_a_route_are_as_recorded(case, router):
    server, route, _ = story(case)
    recorded = STORIES / case / FILES[router]
    now = children_of(router, server, route)
    if os.environ.get("UPDATE_GOLDEN"):
        dumped = yaml.dump_all(now, Dumper=Plain, sort_keys=False, width=120)
        recorded.write_text(dumped)
    assert list(yaml.safe_load_all(recorded.read_text())) == now


def test_nothing_is_recorded_that_is_not_made():
    made = {(case, FILES[router]) for case, router in CASES}
    recorded = {(path.parent.name, path.name) for path in STORIES.glob("*/*.yaml")}
    assert recorded - made == {(case, "in.yaml") for case, _ in made}
