"""`spec.autoscaling` for itself: the API server and the operator's types refuse the same.

In a definition of its own, with the rule between `replicas` and `autoscaling` around it.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modelserver_operator.apis.autoscaling import REPLICAS_OR_AUTOSCALING, Autoscaling
from modelserver_operator.apis.scaling_status import ScalingStatus
from modelserver_operator.apis.schema import structural_schema
from modelserver_operator.apis.types import ApiModel
from support.autoscalers import STORIES, scaling_of
from support.waiting import wait_until

GROUP = "autoscaling-type.example"
COLLECTION = f"/apis/{GROUP}/v1/namespaces/default/scalings"
DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


class Spec(ApiModel):
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    rules = (REPLICAS_OR_AUTOSCALING,)


@pytest.fixture(scope="module", autouse=True)
def definition(kube):
    """Accepted as a whole: so the estimated cost of its rules is within the API server's limit."""
    parts = {
        "spec": structural_schema(Spec, with_defaults=True),
        "status": structural_schema(ScalingStatus, with_defaults=False),
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": parts}},
    }
    names = {"kind": "Scaling", "listKind": "ScalingList", "plural": "scalings"}
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scalings.{GROUP}"
    kube.create(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"scalings.{GROUP}"},
            "spec": {
                "group": GROUP,
                "names": names | {"singular": "scaling"},
                "scope": "Namespaced",
                "versions": [version],
            },
        }
    )
    wait_until(lambda: kube.ask("GET", COLLECTION).is_success, timeout=120, what="it is served")
    yield
    kube.delete(path)


def post(kube, spec, **more):
    metadata = {"name": "x", "namespace": "default"}
    manifest = {"apiVersion": f"{GROUP}/v1", "kind": "Scaling", "metadata": metadata, "spec": spec}
    return kube.ask("POST", COLLECTION, manifest | more, params=DRY_RUN)


def read(spec):
    """A value, or the sentence of the refusal."""
    try:
        return Spec.model_validate_json(json.dumps(spec))
    except ValidationError as failure:
        return failure.errors()[0]["msg"].removeprefix("Value error, ")


def compare(kube, spec):
    answer, ours = post(kube, spec), read(spec)
    if answer.is_success:
        assert isinstance(ours, Spec), f"only we refuse it: {ours}"
        assert read(answer.json()["spec"]) == ours
    else:
        assert answer.status_code in {400, 422}, answer.text
        assert isinstance(ours, str), f"only the API server refuses it: {answer.text}"


NUMBERS = st.integers(-1, 3) | st.just(1001)
NAMES = st.sampled_from(["a", "b", "", "A"])
TIMES = st.sampled_from(["08:00", "18:30", "24:00", "8:00", "00:00"])
METRICS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["inflight", "cpu", "memory", "gpu", "nothing"]),
        "target": st.sampled_from([0, 1, 100, 101]),
    }
)
QUERIES = st.fixed_dictionaries(
    {
        "name": NAMES,
        "query": st.sampled_from(["up", ""]),
        "target": st.sampled_from(["1", "0", "0.0", "0.05", "1.", "-1", "00.1", "12.50"]),
    }
)
TRIGGERS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "type": st.sampled_from(["kafka", "cpu", "cron", "external-push"]),
        "metadata": st.dictionaries(st.sampled_from("ab"), st.just("x"), max_size=2),
    },
    optional={
        "metricType": st.sampled_from(["Value", "AverageValue", "Utilization"]),
        "authenticationRef": st.just({"name": "x"}),
    },
)
SCHEDULES = st.fixed_dictionaries(
    {"name": NAMES, "start": TIMES, "end": TIMES, "minReplicas": NUMBERS},
    optional={
        "maxReplicas": NUMBERS,
        "timeZone": st.sampled_from(["Europe/Berlin", "UTC", "Etc/GMT+3", "berlin", "A/B/C/D"]),
        "days": st.lists(st.sampled_from(["Mon", "Tue", "Tag"]), max_size=3),
    },
)
SCALINGS = st.fixed_dictionaries(
    {},
    optional={
        "engine": st.sampled_from(["Auto", "HPA", "KEDA", "Operator", "Knative"]),
        "minReplicas": NUMBERS,
        "maxReplicas": NUMBERS,
        "metrics": st.lists(METRICS, max_size=3),
        "queries": st.lists(QUERIES, max_size=2),
        "triggers": st.lists(TRIGGERS, max_size=2),
        "schedules": st.lists(SCHEDULES, max_size=2),
        "scaleDownDelaySeconds": st.sampled_from([-1, 0, 3600, 3601]),
        "zero": st.fixed_dictionaries({}, optional={"idleSeconds": st.sampled_from([9, 10])}),
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(scaling=SCALINGS, replicas=st.sampled_from([None, None, None, 1, 2]))
def test_on_any_autoscaling(kube, scaling, replicas):
    compare(kube, {"autoscaling": scaling} | ({} if replicas is None else {"replicas": replicas}))


GOOD = {"maxReplicas": 4}
ONE = {
    "metric": {"name": "cpu", "target": 70},
    "query": {"name": "a", "query": "up", "target": "1"},
    "trigger": {"name": "a", "type": "kafka", "metadata": {"a": "b"}},
    "schedule": {"name": "a", "start": "08:00", "end": "18:00", "minReplicas": 2},
}
FIELDS = {"metrics": METRICS, "queries": QUERIES, "triggers": TRIGGERS, "schedules": SCHEDULES}
EACH = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda field: FIELDS[field].map(lambda item: {field: [item]})
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(part=EACH)
def test_on_each_part_by_itself(kube, part):
    compare(kube, {"autoscaling": GOOD | part})


@pytest.mark.parametrize("story", sorted(path.name for path in STORIES.iterdir()))
def test_the_stories_are_accepted(kube, story):
    written = scaling_of(story).model_dump(mode="json", by_alias=True, exclude_none=True)
    answer = post(kube, {"autoscaling": written})
    assert answer.is_success, answer.text


REFUSED = {
    "replicas beside": ({"replicas": 3, "autoscaling": GOOD}, "remove replicas"),
    "min above max": ({"autoscaling": GOOD | {"minReplicas": 5}}, "raise maxReplicas"),
    "zero with a least": ({"autoscaling": GOOD | {"zero": {}}}, "requires minReplicas: 0"),
    "HPA by requests": (
        {"autoscaling": GOOD | {"engine": "HPA", "metrics": [{"name": "inflight", "target": 8}]}},
        "set engine to Auto, KEDA or Operator",
    ),
    "HPA by nothing": ({"autoscaling": GOOD | {"engine": "HPA"}}, "requires metrics cpu or memory"),
    "triggers without KEDA": (
        {"autoscaling": GOOD | {"engine": "Operator", "triggers": [ONE["trigger"]]}},
        "cannot ask KEDA's triggers",
    ),
    "a cpu trigger": (
        {"autoscaling": GOOD | {"triggers": [ONE["trigger"] | {"type": "cpu"}]}},
        "write cpu and memory under metrics",
    ),
    "a schedule above max": (
        {"autoscaling": GOOD | {"schedules": [ONE["schedule"] | {"minReplicas": 9}]}},
        "give the schedule a maxReplicas",
    ),
    "a schedule of no time": (
        {"autoscaling": GOOD | {"schedules": [ONE["schedule"] | {"end": "08:00"}]}},
        "start and end must differ",
    ),
    "a gpu above 100": (
        {"autoscaling": GOOD | {"metrics": [{"name": "gpu", "target": 101}]}},
        "at most 100",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_to_write_instead(kube, case):
    spec, words = REFUSED[case]
    answer = post(kube, spec)
    assert answer.status_code == 422
    assert words in answer.json()["message"]
    assert words in read(spec)


def test_the_largest_is_within_the_cost_of_rules(kube):
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    spec = {
        "maxReplicas": 1000,
        "minReplicas": 0,
        "metrics": [
            {"name": name, "target": 100}
            for name in ("inflight", "queueDepth", "tokensPerSecond", "cpu", "memory", "gpu")
        ],
        "queries": [ONE["query"] | {"name": f"q{n}", "query": "x" * 1024} for n in range(4)],
        "triggers": [
            ONE["trigger"] | {"name": f"t{n}", "metadata": {f"k{m}": "x" * 1024 for m in range(24)}}
            for n in range(8)
        ],
        "schedules": [ONE["schedule"] | {"name": f"s{n}", "days": days} for n in range(8)],
        "zero": {},
    }
    answer = post(kube, {"autoscaling": spec})
    assert answer.is_success, answer.text
