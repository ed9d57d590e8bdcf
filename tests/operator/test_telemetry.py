"""What the operator says about itself: logs, metrics, probes, and the loop's lag."""

import asyncio
import json
import logging

import aiohttp
import pytest
from prometheus_client import generate_latest

from modelserver_operator.telemetry.lag import LoopLag
from modelserver_operator.telemetry.logs import JsonFormatter
from modelserver_operator.telemetry.metrics import Gauges, Metrics
from modelserver_operator.telemetry.server import health, metrics, serving


def a_record(message, *arguments, error=None):
    info = (type(error), error, None) if error else None
    return logging.LogRecord("operator", logging.WARNING, "file", 1, message, arguments, info)


def test_a_log_line_is_one_json_object():
    line = JsonFormatter().format(a_record("wrote %s\nand more", "chat"))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "wrote chat\nand more"
    assert entry["level"] == "warning"
    assert entry["time"].endswith("+00:00")


def test_an_exception_is_part_of_its_line():
    entry = json.loads(JsonFormatter().format(a_record("broken", error=ValueError("why"))))
    assert "ValueError: why" in entry["exception"]


def test_requests_and_reconciliations_are_counted():
    measured = Metrics()
    measured.request(verb="patch", kind="Deployment", code=201)
    measured.request(verb="patch", kind="Deployment", code=201)
    measured.reconciled("wrote", 0.02)
    measured.restarted("Pod", "Expired")
    text = generate_latest(measured.registry).decode()
    requests = 'api_requests_total{code="201",kind="Deployment",verb="patch"} 2.0'
    assert f"modelserver_operator_{requests}" in text
    assert 'modelserver_operator_reconcile_total{result="wrote"} 1.0' in text
    assert 'modelserver_operator_reconcile_seconds_bucket{le="0.025"} 1.0' in text
    assert 'modelserver_operator_watch_restarts_total{cause="Expired",kind="Pod"} 1.0' in text


def test_gauges_are_read_when_somebody_asks():
    measured, gauges, depth = Metrics(), Gauges(), [3]
    gauges.add("queue_depth", "text", lambda: depth[0])
    gauges.add_labelled("modelservers", "text", ("reason",), lambda: [(("Ready",), 2)])
    measured.show(gauges)
    depth[0] = 7
    text = generate_latest(measured.registry).decode()
    assert "modelserver_operator_queue_depth 7.0" in text
    assert 'modelserver_operator_modelservers{reason="Ready"} 2.0' in text


@pytest.fixture
async def served(unused_tcp_port):
    complaints = []
    routes = {"/livez": health(lambda: complaints), "/metrics": metrics(Metrics().registry)}
    async with serving(routes, unused_tcp_port), aiohttp.ClientSession() as session:

        async def get(path):
            async with session.get(f"http://127.0.0.1:{unused_tcp_port}{path}") as answer:
                return answer.status, await answer.text()

        yield get, complaints


async def test_a_probe_says_what_is_wrong(served):
    get, complaints = served
    assert await get("/livez") == (200, "ok")
    complaints.append("watch of pods silent for 160 s")
    assert await get("/livez") == (503, "watch of pods silent for 160 s")


async def test_metrics_are_in_the_format_of_prometheus(served):
    get, _ = served
    status, text = await get("/metrics")
    assert status == 200
    assert "# TYPE modelserver_operator_reconcile_seconds histogram" in text


async def test_a_busy_loop_is_noticed():
    lag = LoopLag()
    assert lag.seconds() == 0
    await asyncio.sleep(0.6)
    quiet = lag.seconds()
    deadline = asyncio.get_running_loop().time() + 1.2
    while asyncio.get_running_loop().time() < deadline:
        pass
    assert lag.seconds() > max(0.5, quiet)
