"""What counts as drift and what the API server and the controllers may add."""

import pytest
from modelserver_operator.plan.drift import FIELD_MANAGER, differences, foreign_fields


@pytest.mark.parametrize(
    ("desired", "observed", "paths"),
    [
        ({"spec": {"a": 1}}, {"spec": {"a": 1, "defaulted": 2}}, []),
        ({"spec": {"a": 1}}, {"spec": {"a": 2}}, [".spec.a"]),
        ({"spec": {"a": 1}}, {"spec": {}}, [".spec.a"]),
        ({"spec": {"a": {}}}, {"spec": {}}, []),
        ({"spec": {"on": False}}, {"spec": {}}, []),
        ({"spec": {"on": False}}, {"spec": {"on": True}}, [".spec.on"]),
        ({"list": [1, 2]}, {"list": [1, 2, 3]}, [".list"]),
        ({"list": [1, 2]}, {"list": [2, 1]}, [".list[0]", ".list[1]"]),
        (
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            [],
        ),
        (
            {"containers": [{"name": "server", "image": "x:1"}]},
            {"containers": [{"name": "server", "image": "x:2", "terminationMessagePath": "/dev"}]},
            [".containers[0].image"],
        ),
        ({"a": "text"}, {"a": {"b": 1}}, [".a"]),
        ({"a": {"b": 1}}, {"a": "text"}, [".a"]),
    ],
)
def test_a_difference_is_what_we_set_and_find_otherwise(desired, observed, paths):
    assert list(differences(desired, observed)) == paths


def managed(manager, fields, **more):
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


OURS = managed(FIELD_MANAGER, {"f:spec": {"f:a": {}}, "f:metadata": {"f:labels": {"f:x": {}}}})
TEMPLATE_ANNOTATIONS = {
    "f:spec": {
        "f:template": {
            "f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}
        }
    }
}


@pytest.mark.parametrize(
    ("entry", "paths"),
    [
        (managed("kubectl-edit", {"f:spec": {"f:extra": {}}}), [".spec.extra"]),
        (managed("kubectl-edit", {"f:spec": {"f:a": {}}}), []),
        (managed("kubectl-label", {"f:metadata": {"f:labels": {"f:y": {}}}}), [".metadata.labels.y"]),
        (managed("kubectl-annotate", {"f:metadata": {"f:annotations": {"f:y": {}}}}), []),
        (managed("kubectl-rollout", TEMPLATE_ANNOTATIONS), []),
        (managed("kube-controller-manager", {"f:spec": {"f:extra": {}}}), []),
        (managed("kubectl", {"f:status": {"f:b": {}}}, subresource="status"), []),
        (
            managed("kubectl", {"f:spec": {"f:env": {'k:{"name":"X"}': {".": {}, "f:name": {}}}}}),
            ['.spec.env.k:{"name":"X"}.name'],
        ),
    ],
)  # fmt: skip
def test_foreign_fields_are_what_others_added(entry, paths):
    observed = {"metadata": {"managedFields": [OURS, entry]}}
    assert list(foreign_fields(observed)) == paths
