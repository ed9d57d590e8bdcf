"""The CRD: as the types say, bounded, explained, small."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from pydantic.json_schema import SkipJsonSchema

from modelserver_operator.apis.crd import custom_resource_definition
from modelserver_operator.apis.generate import generated, stale
from modelserver_operator.apis.schema import structural_schema
from modelserver_operator.apis.types import ApiModel
from modelserver_operator.apis.v1alpha1 import ModelServer, ModelServerSpec
from modelserver_operator.resources.kinds import MODEL_SERVER

ROOT = Path(__file__).parents[2]
MAX_BYTES = 120 * 1024  # kubectl keeps a copy in an annotation, which takes 256 KiB
REFUSED_BY_THE_API = {
    "$ref",
    "$defs",
    "const",
    "examples",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "prefixItems",
    "propertyNames",
    "title",
    "uniqueItems",
}


def test_what_is_committed_is_what_the_types_say():
    assert stale(ROOT) == [], "run `make crds`"


def test_the_check_fails_where_files_are_stale(tmp_path):
    command = [sys.executable, "-m", "modelserver_operator.apis.generate", "--root", str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT / "operator")}

    def run(*more):
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, env=environment, check=False
        )

    missing = run("--check")
    assert missing.returncode == 1
    assert "crds/modelserver.yaml, docs/api.md: not as the types say; run `make crds`" in (
        missing.stderr
    )
    assert run().returncode == 0
    assert run("--check").returncode == 0


def test_the_crd_is_small():
    assert len(generated()["crds/modelserver.yaml"].encode()) < MAX_BYTES


@cache
def crd():
    return yaml.safe_load((ROOT / "crds/modelserver.yaml").read_text())


def root():
    return crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(schema, path):
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}[*]")


def parts():
    schema = root()
    for name in ("spec", "status"):
        yield from walk(schema["properties"][name], name)


def test_every_field_is_explained():
    unexplained = [
        path for path, schema in parts() if not path.endswith("]") and "description" not in schema
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    ("kind", "bound"), [("string", "maxLength"), ("array", "maxItems"), ("map", "maxProperties")]
)
def test_every_string_list_and_map_is_bounded(kind, bound):
    def is_kind(schema):
        if kind == "map":
            return "additionalProperties" in schema
        return schema.get("type") == kind and "enum" not in schema

    assert [path for path, one in parts() if is_kind(one) and bound not in one] == []


def test_numbers_have_a_least_value():
    assert [p for p, one in parts() if one.get("type") == "integer" and "minimum" not in one] == []


def test_lists_of_objects_say_how_they_merge():
    lists = [(path, one) for path, one in parts() if one.get("type") == "array"]
    assert lists
    assert [path for path, one in lists if "x-kubernetes-list-type" not in one] == []


def test_nothing_is_left_that_the_api_server_refuses():
    for path, schema in parts():
        assert not REFUSED_BY_THE_API & set(schema), path
        assert not isinstance(schema.get("additionalProperties"), bool), path


def test_status_defaults_nothing_but_that_nobody_has_looked():
    assert {
        p: one["default"]
        for p, one in walk(root()["properties"]["status"], "status")
        if "default" in one
    } == {"status": {"observedGeneration": 0}}


def test_defaults_are_those_of_the_types():
    defaults = {path: one["default"] for path, one in parts() if "default" in one}
    assert {path: value for path, value in defaults.items() if value != {}} == {
        "status": {"observedGeneration": 0},
        "spec.rollout.strategy": "Auto",
        "spec.rollout.steps[].holdSeconds": 60,
        "spec.rollout.shadow.percent": 10,
        "spec.rollout.shadow.holdSeconds": 60,
        "spec.rollout.shadow.minPairs": 50,
        "spec.rollout.shadow.compare": "Auto",
        "spec.rollout.shadow.minCosinePercent": 98,
        "spec.rollout.shadow.marginPercent": 25,
        "spec.rollout.shadow.baselinePercent": 100,
        "spec.rollout.shadow.only": False,
        "spec.rollout.preflight.minPassPercent": 100,
        "spec.rollout.preflight.timeoutSeconds": 300,
        "spec.rollout.analysis.source": "Auto",
        "spec.rollout.analysis.intervalSeconds": 15,
        "spec.rollout.analysis.minSamples": 50,
        "spec.rollout.analysis.falseAlarmPercent": 1,
        "spec.rollout.analysis.errors.enabled": True,
        "spec.rollout.analysis.errors.marginPercent": 25,
        "spec.rollout.analysis.latency.enabled": True,
        "spec.rollout.analysis.latency.marginPercent": 25,
        "spec.rollout.analysis.latency.slowAboveMilliseconds": 0,
        "spec.rollout.analysis.timeToFirstToken.enabled": True,
        "spec.rollout.analysis.timeToFirstToken.marginPercent": 25,
        "spec.rollout.analysis.timeToFirstToken.slowAboveMilliseconds": 0,
        "spec.rollout.analysis.interTokenTime.enabled": True,
        "spec.rollout.analysis.interTokenTime.marginPercent": 25,
        "spec.rollout.analysis.interTokenTime.slowAboveMilliseconds": 0,
        "spec.rollout.analysis.maxErrorPercent": 0,
        "spec.rollout.onFailure": "Rollback",
        "spec.rollout.onTimeout": "Auto",
        "spec.rollout.approval": "Auto",
        "spec.rollout.capacityPolicy": "Surge",
        "spec.rollout.prepareDeadlineSeconds": 3600,
        "spec.rollout.stepDeadlineSeconds": 3600,
        "spec.rollout.deadlineSeconds": 86400,
        "spec.rollout.bakeSeconds": 300,
        "spec.rollout.historyLimit": 5,
        "spec.rollout.paused": False,
        "spec.traffic.router": "Auto",
        "spec.traffic.sticky.userKey": False,
        "spec.traffic.sticky.seconds": 3600,
        "spec.traffic.experiments[].replicas": 1,
        "spec.rollout.analysis.queries[].minRequests": 0,
        "spec.rollout.analysis.webhooks[].path": "/",
        "spec.rollout.analysis.webhooks[].port": 80,
        "spec.rollout.analysis.webhooks[].timeoutSeconds": 5,
        "spec.model.task": "Auto",
        "spec.model.allowPickle": False,
        "spec.model.trustRemoteCode": False,
        "spec.model.credentials.secretRef.key": "token",
        "spec.extraModels[].credentials.secretRef.key": "token",
        "spec.extraModels[].task": "Auto",
        "spec.extraModels[].dtype": "Auto",
        "spec.engine": "Transformers",
        "spec.runtime.dtype": "Auto",
        "spec.runtime.maxModelLength": 0,
        "spec.runtime.requestTimeoutSeconds": 120,
        "spec.runtime.drainSeconds": 60,
        "spec.runtime.batching.maxBatchSize": 32,
        "spec.runtime.batching.maxBatchTokens": 2048,
        "spec.runtime.batching.maxWaitMilliseconds": 10,
        "spec.runtime.batching.speculativeTokens": 8,
        "spec.runtime.queue.maxSize": 100,
        "spec.runtime.queue.timeoutSeconds": 30,
        "spec.runtime.queue.scope": "Model",
        "spec.runtime.responseCache.enabled": True,
        "spec.runtime.responseCache.ttlSeconds": 3600,
        "spec.runtime.responseCache.maxEntries": 1000,
        "spec.runtime.circuitBreaker.failureThreshold": 5,
        "spec.runtime.circuitBreaker.openSeconds": 60,
        "spec.runtime.redis.secretRef.key": "url",
        "spec.access.rateLimit.requestsPerMinute": 0,
        "spec.access.rateLimit.tokensPerMinute": 0,
        "spec.replicas": 1,
        "spec.autoscaling.engine": "Auto",
        "spec.autoscaling.minReplicas": 1,
        "spec.autoscaling.scaleDownDelaySeconds": 300,
        "spec.autoscaling.schedules[].timeZone": "UTC",
        "spec.autoscaling.schedules[].days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
        "spec.autoscaling.triggers[].metricType": "AverageValue",
        "spec.autoscaling.triggers[].authenticationRef.kind": "TriggerAuthentication",
        "spec.autoscaling.zero.idleSeconds": 600,
        "spec.autoscaling.zero.maxHeldRequests": 1000,
        "spec.autoscaling.zero.maxHeldBytes": 67_108_864,
        "spec.autoscaling.zero.maxHoldSeconds": 300,
        "spec.network.policy": "Restricted",
        "spec.network.egressTo[].ports[].protocol": "TCP",
        "spec.availability.pdb": "Auto",
        "spec.availability.spread": "Zone",
        "spec.suspend": False,
    }
    assert {path for path, value in defaults.items() if value == {}} == {
        "spec.runtime",
        "spec.network",
        "spec.availability",
        "spec.rollout.analysis.errors",
        "spec.rollout.analysis.latency",
    }


def test_parts_that_may_be_absent_are_not_made_by_a_default():
    """Their absence is what keeps the revisions of objects from before there were such parts."""
    fields = {path: one for path, one in parts() if path.count(".") <= 2}
    optional = ["access", "extraModels"]
    optional += [f"runtime.{one}" for one in ("batching", "queue", "responseCache", "redis")]
    for name in (*optional, "runtime.circuitBreaker"):
        assert "default" not in fields[f"spec.{name}"], name


def test_names_are_those_that_the_operator_uses():
    spec = crd()["spec"]
    names = spec["names"]
    assert f"{spec['group']}/{spec['versions'][0]['name']}" == MODEL_SERVER.api_version
    assert (names["kind"], names["plural"]) == (MODEL_SERVER.kind, MODEL_SERVER.plural)
    assert names["shortNames"] == ["msrv"]
    assert names["categories"] == ["all", "modelserving"]


def test_every_field_can_be_read_where_it_is():
    text = (ROOT / "crds/modelserver.yaml").read_text()
    assert "&id" not in text
    assert "*id" not in text


def test_columns_tell_a_person_what_is_going_on():
    columns = crd()["spec"]["versions"][0]["additionalPrinterColumns"]
    shown = [one["name"].upper() for one in columns if not one.get("priority")]
    wide = [one["name"].upper() for one in columns if one.get("priority")]
    rollout = ["ROLLOUT", "CANARY%"]
    assert shown == ["READY", "STATUS", "REPLICAS", "REVISION", *rollout, "URL", "AGE"]
    assert wide == ["MODEL", "MESSAGE"]


def test_columns_and_the_scale_subresource_read_fields_that_exist():
    known = {path for path, _ in parts()}
    version = crd()["spec"]["versions"][0]
    paths = [one["jsonPath"] for one in version["additionalPrinterColumns"]]
    paths += list(version["subresources"]["scale"].values())
    for path in paths:
        plain = path.partition("[")[0].removeprefix(".")
        assert plain in known or plain == "metadata.creationTimestamp", path


def rules_of(model):
    seen, todo = [], [model]
    while todo:
        one = todo.pop()
        for field in one.model_fields.values():
            is_shown = not any(isinstance(mark, SkipJsonSchema) for mark in field.metadata)
            todo += models_in(field.annotation) if is_shown else []
        seen += one.rules if issubclass(one, ApiModel) else []
    return seen


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in models_in(a)]


def test_every_rule_of_the_types_is_in_the_crd_with_its_message():
    shipped = [
        rule
        for _, one in [*parts(), ("", root())]
        for rule in one.get("x-kubernetes-validations", [])
    ]
    ours = [rule.validation for rule in rules_of(ModelServer)]
    assert ours
    assert all(rule in shipped for rule in ours)
    assert len(shipped) >= len(ours)


def test_messages_of_rules_are_sentences_without_a_final_period():
    for rule in rules_of(ModelServer):
        assert len(rule.message) > 20, rule
        assert not rule.message.endswith("."), rule


def test_a_default_of_a_part_is_given_only_if_something_in_it_has_one():
    spec = structural_schema(ModelServerSpec, with_defaults=True)["properties"]
    assert "default" not in spec["podTemplate"]
    assert "default" not in spec["resources"]


def test_the_definition_is_the_same_object_every_time():
    assert custom_resource_definition() == custom_resource_definition() == crd()
