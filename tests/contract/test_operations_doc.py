"""docs/operations.md names every setting and every metric, and none that does not exist."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from prometheus_client import generate_latest

from modelserver_operator.config import PREFIX, OperatorConfig
from modelserver_operator.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
REPLICA = (ROOT / "operator/modelserver_operator/reconciler/replica.py").read_text()
LAG = (ROOT / "operator/modelserver_operator/telemetry/lag.py").read_text()


def test_every_setting_is_described():
    described = set(re.findall(rf"^\| `{PREFIX}([A-Z_]+)`", DOCUMENT, re.MULTILINE))
    assert described == {field.name.upper() for field in fields(OperatorConfig)}


def test_defaults_are_those_of_the_operator():
    rows = dict(re.findall(rf"^\| `{PREFIX}([A-Z_]+)` \| `?([^`|]*?)`? \|", DOCUMENT, re.MULTILINE))
    for field in fields(OperatorConfig):
        if isinstance(field.default, str | int | float) and field.default not in {MISSING, ""}:
            assert rows[field.name.upper()] == str(field.default).lower().replace("info", "INFO"), (
                field.name
            )


def test_every_metric_is_described():
    told = re.findall(
        r"^# TYPE (modelserver_operator_\w+)",
        generate_latest(Metrics().registry).decode(),
        re.MULTILINE,
    )
    read = [f"modelserver_operator_{name}" for name in re.findall(r'"(\w+)", "', REPLICA + LAG)]
    assert len(told) >= 4
    assert len(read) >= 5
    described = set(re.findall(r"modelserver_operator_\w+", DOCUMENT))
    assert described == {*told, *read}
