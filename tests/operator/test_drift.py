"""What counts as drift and what the API server, the controllers and others may add."""

import pytest

from modelserver_operator.plan.drift import FIELD_MANAGER, additions, differences
from support.planning import a_server, nothing, plan_for

OWNER = {"uid": "u", "controller": True}


def child(body, **metadata):
    metadata = {"labels": {"ours": "x"}, "ownerReferences": [OWNER], **metadata}
    return {"kind": "Deployment", "metadata": metadata, **body}


@pytest.mark.parametrize(
    ("desired", "observed", "paths"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 1, "defaulted": 2}}, []),
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}, ["spec.a"]),
        ({"spec": {"a": 1}}, {"spec": {}}, ["spec.a"]),
        ({"spec": {"a": 1}}, {}, ["spec"]),
        ({"spec": {"a": {}}}, {"spec": {}}, []),
        ({"spec": {"a": ""}}, {"spec": {}}, []),
        ({"spec": {"a": []}}, {"spec": {"a": None}}, []),
        ({"spec": {"on": False}}, {"spec": {}}, []),
        ({"spec": {"on": False}}, {"spec": {"on": True}}, ["spec.on"]),
        ({"spec": {"replicas": 0}}, {"spec": {}}, ["spec.replicas"]),
        ({"automountServiceAccountToken": False}, {}, ["automountServiceAccountToken"]),
        ({"list": [1, 2]}, {"list": [1, 2, 3]}, ["list"]),
        ({"list": [1, 2]}, {"list": [2, 1]}, ["list[0]", "list[1]"]),
        ({"list": [1]}, {"list": "text"}, ["list"]),
        (
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            [],
        ),
        (
            {"containers": [{"name": "server", "image": "x:1"}]},
            {"containers": [{"name": "server", "image": "x:2", "terminationMessagePath": "/dev"}]},
            ["containers[server].image"],
        ),
        (
            {"containers": [{"name": "server"}]},
            {"containers": [{"name": "other"}]},
            ["containers[server]"],
        ),
        # The same name in two namespaces tells nothing apart.
        (
            {"parentRefs": [{"name": "x", "namespace": "a"}, {"name": "x", "namespace": "b"}]},
            {"parentRefs": [{"name": "x", "namespace": "a"}, {"name": "x", "namespace": "b"}]},
            [],
        ),
        # Rules have names, and their order decides.
        (
            {"spec": {"http": [{"name": "beta"}, {"name": "main"}]}},
            {"spec": {"http": [{"name": "main"}, {"name": "beta"}]}},
            ["spec.http[beta].name", "spec.http[main].name"],
        ),
        ({"retries": {"attempts": 0}}, {"retries": {}}, ["retries.attempts"]),
        ({"a": "text"}, {"a": {"b": 1}}, ["a"]),
        ({"a": {"b": 1}}, {"a": "text"}, ["a"]),
        ({"a": 1}, {"a": 1, "status": {"b": 2}}, []),
        ({"spec": {"selector": {"a": "b"}}}, {"spec": {"selector": {"a": "b"}}}, []),
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "c": "d"}}, ["selector"]),
        ({"podSelector": {}}, {"podSelector": {"matchLabels": {"a": "b"}}}, ["podSelector"]),
    ],
)
def test_a_difference_is_what_we_set_and_find_otherwise(desired, observed, paths):
    assert list(differences(child(desired), child(observed))) == paths


@pytest.mark.parametrize(
    ("metadata", "paths"),
    [
        ({"labels": {"ours": "x", "theirs": "y"}}, []),
        ({"labels": {"ours": "z"}}, ["metadata.labels.ours"]),
        ({"labels": {}}, ["metadata.labels.ours"]),
        ({"ownerReferences": [{"uid": "v"}, OWNER]}, []),
        ({"ownerReferences": []}, ["metadata.ownerReferences"]),
        ({"annotations": {"theirs": "y"}}, []),
    ],
)
def test_labels_and_owner_are_ours_and_others_may_have_theirs(metadata, paths):
    assert list(differences(child({}), child({}, **metadata))) == paths


TEMPLATE = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
RESTARTED = {
    "f:template": {
        "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
    }
}
DESIRED = {
    "spec": {"a": 1, "selector": {"x": "1"}, "containers": [{"name": "server", "image": "x"}]}
}
SIDECAR = 'k:{"name":"sidecar"}'
SERVER = 'k:{"name":"server"}'


@pytest.mark.parametrize(
    ("fields", "added", "paths"),
    [
        ({"f:a": {}}, {}, []),
        ({"f:b": {}}, {"b": 1}, ["spec.b"]),
        ({"f:b": {".": {}, "f:c": {}}}, {"b": {"c": 1}}, ["spec.b.c"]),
        ({"f:b": {}}, {}, []),  # gone since
        ({"f:clusterIP": {}}, {"clusterIP": "10.0.0.1"}, []),
        ({"f:sessionAffinity": {}}, {"sessionAffinity": "None"}, []),
        ({"f:sessionAffinity": {}}, {"sessionAffinity": "ClientIP"}, ["spec.sessionAffinity"]),
        ({"f:selector": {"f:y": {}}}, {"selector": {"x": "1", "y": "2"}}, ["spec.selector.y"]),
        (RESTARTED, {"template": TEMPLATE}, []),
        (
            {"f:containers": {SIDECAR: {".": {}, "f:name": {}, "f:image": {}}}},
            {"containers": [{"name": "server"}, {"name": "sidecar", "image": "y"}]},
            [f"spec.containers.{SIDECAR[2:]}.name", f"spec.containers.{SIDECAR[2:]}.image"],
        ),
        ({"f:names": {".": {}, 'v:"x"': {}}}, {"names": ["x"]}, []),
        (
            {"f:containers": {SERVER: {"f:image": {}, "f:tty": {}}}},
            {"containers": [{"name": "server", "image": "x", "tty": True}]},
            [f"spec.containers.{SERVER[2:]}.tty"],
        ),
    ],
)
def test_an_addition_is_what_others_manage_and_we_do_not_set(fields, added, paths):
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": fields}}
    observed = child({"spec": {**DESIRED["spec"], **added}}, managedFields=[entry])
    assert list(additions(child(DESIRED), observed)) == paths


@pytest.mark.parametrize(
    "entry",
    [
        {"manager": FIELD_MANAGER},
        {"manager": "kube-controller-manager"},
        {"manager": "kubectl", "subresource": "scale"},
        {"manager": "kubectl", "fieldsV1": {"f:metadata": {"f:labels": {"f:y": {}}}}},
        {"manager": "kubectl", "fieldsV1": {"f:status": {"f:y": {}}}},
    ],
)
def test_our_own_fields_those_of_controllers_and_what_is_not_in_spec_are_no_additions(entry):
    entry = {"operation": "Update", "fieldsV1": {"f:spec": {"f:b": {}}}, **entry}
    observed = child({"spec": {"b": 1}}, managedFields=[entry])
    assert list(additions(child({"spec": {}}), observed)) == []


def test_what_is_planned_does_not_differ_from_itself():
    for write in plan_for(a_server({"replicas": 2}), nothing()).writes:
        assert list(differences(write.manifest, write.manifest)) == []


@pytest.mark.parametrize(
    ("put_in", "paths"),
    [({}, []), ({"fault": {"abort": {"httpStatus": 500}}}, ["spec.http"])],
)
def test_what_is_put_into_a_rule_is_an_addition(put_in, paths):
    """Who writes an atomic list manages all of it, so nothing says what has been added."""
    wanted = {"spec": {"http": [{"name": "main", "timeout": "60s"}]}}
    seen = {"spec": {"http": [{"name": "main", "timeout": "60s"} | put_in]}}
    entry = {"manager": "kubectl-edit", "fieldsV1": {"f:spec": {"f:http": {}}}}
    observed = child(seen, managedFields=[entry])
    assert list(additions(child(wanted), observed)) == paths
