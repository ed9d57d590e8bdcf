"""What makes a revision, and what does not."""

from pathlib import Path

import pytest
import yaml

from modelserver_operator.apis.model import Model
from modelserver_operator.apis.pods import Availability, PodTemplate
from modelserver_operator.apis.runtime import Resources, Runtime
from modelserver_operator.apis.v1alpha1 import ModelServerSpec
from modelserver_operator.resources.digest import digest
from modelserver_operator.resources.pod import make_pod_template
from modelserver_operator.resources.revision import (
    Pins,
    Revision,
    ServedSpec,
    revision_from_data,
)
from support.planning import COMMIT, a_server

RECORDED = yaml.safe_load((Path(__file__).parent / "recorded_revisions.yaml").read_text())
BASE = {"model": {"uri": "hf://org/model", "revision": COMMIT}}


def name_of(spec, **pins):
    pins = {"runtime_image": "image:1", "commit": COMMIT, **pins}
    served = ServedSpec.of(a_server({**BASE, **spec}).spec)
    return Revision(served=served, pins=Pins(**pins)).name


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {**BASE["model"], "revision": "f" * 40}},
        {"model": {**BASE["model"], "servedName": "x"}},
        {"model": {**BASE["model"], "aliases": ["x"]}},
        {"model": {**BASE["model"], "credentials": {"secretRef": {"name": "x"}}}},
        {"engine": "Custom", "runtime": {"image": "x"}},
        {"runtime": {"args": ["x"]}},
        {"runtime": {"drainSeconds": 1}},
        {"resources": {"requests": {"cpu": 1}}},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}},
        {"podTemplate": {"metadata": {"annotations": {"a": "b"}}}},
        {"availability": {"spread": "Node"}},
        {"availability": {"priorityClassName": "high"}},
        {"access": {"apiKeys": {"secretRef": {"name": "keys"}}}},
        {"access": {"rateLimit": {}}},
        {"extraModels": [{"name": "more", "uri": "pvc://models/more"}]},
        {"runtime": {"batching": {}}},
        {"runtime": {"queue": {}}},
        {"runtime": {"responseCache": {}}},
        {"runtime": {"circuitBreaker": {}}},
        {"runtime": {"redis": {"url": "redis://r"}}, "network": {"policy": "Open"}},
    ],
)
def test_what_changes_the_pods_makes_another_revision(spec):
    assert name_of(spec) != name_of({})


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 3},
        {"suspend": True},
        {"network": {"policy": "Open"}},
        {"availability": {"pdb": "None"}},
        {"engine": "Transformers", "runtime": {"dtype": "Auto", "image": ""}},
        {"podTemplate": {}},
        {"resources": {"requests": {}}},
        {"extraModels": []},
        {"access": None, "runtime": {"queue": None}},
    ],
)
def test_what_leaves_the_pods_as_they_are_makes_none(spec):
    assert name_of(spec) == name_of({})


def test_the_same_amount_written_in_another_way_is_the_same_revision():
    def with_memory(amount):
        return name_of({"resources": {"limits": {"memory": amount}}})

    assert with_memory("1Gi") == with_memory("1024Mi") != with_memory("1G")


@pytest.mark.parametrize("pins", [{"runtime_image": "image:2"}, {"commit": "f" * 40}])
def test_pins_are_part_of_the_revision(pins):
    assert name_of({}, **pins) != name_of({})


def test_the_name_of_a_revision_never_changes():
    """It is in the names and selectors of what runs: a change here restarts every pod."""
    assert name_of({}) == "c9ea5f50"
    assert (
        name_of({"runtime": {"args": ["--x"]}, "resources": {"limits": {"cpu": 2}}}) == "6f026680"
    )


def test_a_field_that_a_later_version_adds_with_a_default_changes_nothing():
    assert ServedSpec.of(a_server(BASE).spec).canonical() == BASE


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["story"])
def test_revisions_of_older_operators_keep_their_names_and_their_pods(recorded):
    revision = revision_from_data(recorded["data"])
    assert revision is not None
    assert revision.name == recorded["name"]
    template = make_pod_template("chat", "models", revision)
    assert digest(template, length=16) == recorded["template"], "an upgrade would restart pods"


def test_every_field_of_the_spec_is_served_or_known_not_to_change_the_pods():
    served = {"model", "extra_models", "engine", "runtime", "access", "resources", "pod_template"}
    others = {"replicas", "autoscaling", "suspend", "network"}
    others |= {"availability", "rollout", "traffic"}
    assert set(ModelServerSpec.model_fields) == served | others
    assert set(Availability.model_fields) == {"pdb", "spread", "priority_class_name"}
    assert set(ServedSpec.model_fields) == served | {"spread", "priority_class_name"}


def test_what_is_stored_comes_back():
    revision = Revision(
        served=ServedSpec(
            model=Model(uri="hf://org/model"),
            runtime=Runtime(image="x", args=("a",)),
            resources=Resources(limits={"memory": "1024Mi"}),
            pod_template=PodTemplate.model_validate_json(
                '{"spec": {"hostAliases": [{"ip": "1.1.1.1"}], "containers": [{"name": "x"}]}}'
            ),
        ),
        pins=Pins(commit=COMMIT, hub_endpoint="http://hub"),
    )
    back = revision_from_data(revision.data)
    assert back is not None
    assert (back.name, back.data) == (revision.name, revision.data)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"spec": 1},
        {"format": 2, "spec": BASE, "pins": {}},
        {"format": 1, "spec": {"model": {"uri": "nonsense"}}, "pins": {}},
        {"format": 1, "spec": BASE, "pins": {"unknown": "x"}},
    ],
)
def test_what_something_else_has_stored_is_no_revision(data):
    assert revision_from_data(data) is None
