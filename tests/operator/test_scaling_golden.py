"""An `autoscaling` in, the objects of each engine out: one folder for each story.

`UPDATE_GOLDEN=1 pytest tests/operator/test_scaling_golden.py` writes what is made now; read the
diff.
"""

import os

import pytest
import yaml

from modelserver_operator.resources.hpa import make_hpa
from modelserver_operator.resources.scaled_object import make_scaled_object
from support.autoscalers import (
    PROMETHEUS,
    REVISION,
    STORIES,
    an_autoscaling,
    objects_of,
    scaling_of,
)
from support.planning import a_server

NAMES = sorted(path.name for path in STORIES.iterdir())


@pytest.mark.parametrize("story", NAMES)
def test_the_objects_of_an_autoscaling_are_as_recorded(story):
    made = objects_of(a_server(), scaling_of(story))
    for name, manifests in made.items():
        recorded = STORIES / story / name
        if os.environ.get("UPDATE_GOLDEN"):
            recorded.write_text(yaml.safe_dump_all(manifests, sort_keys=False, width=120))
        assert list(yaml.safe_load_all(recorded.read_text())) == manifests


def test_nothing_is_recorded_that_is_not_made():
    made = {(story, name) for story in NAMES for name in objects_of(a_server(), scaling_of(story))}
    recorded = {(path.parent.name, path.name) for path in STORIES.glob("*/*.yaml")}
    assert recorded - made == {(story, "in.yaml") for story in NAMES}


def a_scaled_object(scaling, **more):
    options = {"bounds": (1, 10), "prometheus_url": PROMETHEUS, **more}
    return make_scaled_object(a_server(), REVISION, scaling, **options)["spec"]


def test_what_cannot_be_asked_is_left_out():
    scaling = an_autoscaling(
        metrics=[{"name": "cpu", "target": 70}, {"name": "inflight", "target": 8}]
    )
    spec = a_scaled_object(scaling, ignored=frozenset({"inflight"}))
    assert [one["name"] for one in spec["triggers"]] == ["metric-cpu"]


def test_cpu_and_memory_alone_have_no_fallback_which_keda_would_refuse():
    scaling = an_autoscaling(engine="KEDA", metrics=[{"name": "cpu", "target": 70}])
    assert "fallback" not in a_scaled_object(scaling)
    assert a_scaled_object(an_autoscaling())["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_a_schedule_whose_zone_nobody_knows_is_not_given_to_keda():
    schedule = {"name": "x", "start": "08:00", "end": "09:00", "minReplicas": 2}
    known = an_autoscaling(schedules=[schedule])
    unknown = an_autoscaling(schedules=[{**schedule, "timeZone": "Mars/Olympus"}])
    assert len(a_scaled_object(known)["triggers"]) == 2
    assert len(a_scaled_object(unknown)["triggers"]) == 1


def test_an_hpa_leaves_out_what_only_others_can_measure():
    scaling = an_autoscaling(
        metrics=[{"name": "cpu", "target": 70}, {"name": "inflight", "target": 8}]
    )
    spec = make_hpa(a_server(), REVISION, scaling, least=1, most=3)["spec"]
    assert [one["containerResource"]["name"] for one in spec["metrics"]] == ["cpu"]
