"""The user's part of a pod, laid over ours."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_operator.resources.overlay import overlaid
from support.planning import a_server, plan_for


@pytest.mark.parametrize(
    ("base", "overlay", "result"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}),
        ({}, {"a": {"b": None}}, {"a": {}}),
        ({"tolerations": [1]}, {"tolerations": [2]}, {"tolerations": [2]}),
        (
            {"containers": [{"name": "server", "image": "x"}]},
            {"containers": [{"name": "side", "image": "y"}, {"name": "server", "tty": True}]},
            {
                "containers": [
                    {"name": "server", "image": "x", "tty": True},
                    {"name": "side", "image": "y"},
                ]
            },
        ),
        (
            {"volumeMounts": [{"name": "model", "mountPath": "/model"}]},
            {"volumeMounts": [{"name": "other", "mountPath": "/model"}]},
            {"volumeMounts": [{"name": "other", "mountPath": "/model"}]},
        ),
        ({"containers": [{"name": "a"}]}, {"containers": "odd"}, {"containers": "odd"}),
        ({"ports": [{"containerPort": 1}]}, {"ports": [{"name": "x"}]}, {"ports": [{"name": "x"}]}),
    ],
)
def test_maps_merge_named_lists_merge_and_the_rest_is_replaced(base, overlay, result):
    assert overlaid(base, overlay) == result


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "env", "containers", "name"]), inner, max_size=3)
    ),
    max_leaves=10,
)
MAPS = st.dictionaries(st.sampled_from(["a", "env", "containers", "volumes"]), JSON, max_size=4)


@settings(max_examples=60)
@given(MAPS, MAPS)
def test_whatever_is_laid_over_nothing_breaks_or_changes_its_arguments(base, overlay):
    before = copy.deepcopy((base, overlay))
    once = overlaid(base, overlay)
    assert (base, overlay) == before
    assert overlaid(once, overlay) == once


FIELDS = ["env", "ports", "securityContext", "resources", "volumeMounts", "hostAliases", "x"]
PARTS = st.lists(
    st.builds(
        lambda name, more: {**more, "name": name},
        st.sampled_from(["server", "fetch", "side", "model"]),
        st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3),
    ),
    max_size=2,
    unique_by=lambda part: part["name"],
)
TEMPLATES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3).flatmap(
    lambda more: st.builds(
        lambda parts, kind: {**more, kind: parts},
        PARTS,
        st.sampled_from(["containers", "initContainers", "volumes"]),
    )
)


@settings(max_examples=60, deadline=None)
@given(TEMPLATES)
def test_no_template_breaks_the_planner(spec):
    made = template_of(spec=spec)["template"]["spec"]
    server = next(one for one in made["containers"] if one["name"] == "server")
    assert server["ports"][0]["name"] == "http"


def template_of(**template):
    spec = {"model": {"uri": "pvc://models"}, "podTemplate": template}
    made = {w.manifest["kind"]: w.manifest for w in plan_for(a_server(spec)).writes}
    return made["Deployment"]["spec"]


def test_what_the_operator_promises_cannot_be_taken_away():
    server = {
        "name": "server",
        "env": [{"name": "MODELSERVER_PORT", "value": "1"}],
        "ports": [{"containerPort": 8080, "name": "other"}],
    }
    deployment = template_of(
        spec={"automountServiceAccountToken": True, "containers": [server]},
    )
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    values = {one["name"]: one["value"] for one in container["env"]}
    assert pod["automountServiceAccountToken"] is False
    assert values["MODELSERVER_PORT"] == "8080"
    assert container["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]


def test_labels_of_the_pods_always_fit_the_selector():
    deployment = template_of(metadata={"labels": {"team": "a"}})
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert labels["team"] == "a"


def test_containers_of_the_user_are_restricted_unless_they_say_otherwise():
    plain = {"name": "plain", "image": "x"}
    special = {
        "name": "special",
        "image": "x",
        "securityContext": {"readOnlyRootFilesystem": False},
    }
    containers = template_of(spec={"containers": [plain, special]})["template"]["spec"][
        "containers"
    ]
    contexts = {one["name"]: one["securityContext"] for one in containers}
    assert contexts["plain"] == contexts["server"]
    assert contexts["special"] == {**contexts["server"], "readOnlyRootFilesystem": False}
