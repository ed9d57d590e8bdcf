"""Rollouts whose requests a real Prometheus has counted: the pods' own metrics, and Istio's."""

import pytest

from support.operator_process import OperatorProcess
from support.played_traffic import Behaviour
from support.prometheus_server import Discovery, PrometheusServer
from support.rollouts import ANALYSIS, canary, intended_weights
from support.servers import pinned

pytestmark = pytest.mark.rollouts

SOURCES = ["Prometheus", "Istio"]
WRONG = Behaviour(error_percent=20)
SLOW = Behaviour(slow_percent=60)
LATE_FIRST = Behaviour(slow_first_percent=60)
HELD = [{"weightPercent": 20, "holdSeconds": 3600}, {"weightPercent": 100}]


@pytest.fixture(scope="module")
def prometheus(kube, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prometheus")
    targets = folder / "targets.json"
    with Discovery(kube, targets), PrometheusServer(folder, targets) as server:
        yield server


@pytest.fixture(scope="module")
def operator(installation, module_proxy, tmp_path_factory, prometheus):
    folder = tmp_path_factory.mktemp("operator")
    settings = {"SETTLE_SECONDS": "1", "PROMETHEUS_URL": prometheus.url}
    with OperatorProcess(installation, module_proxy, folder, settings=settings) as process:
        yield process


def counted_by(source, **more):
    """Slow is above half a second: an edge of the runtime's histograms here, and of Istio's."""
    latency = {"slowAboveMilliseconds": 500}
    return canary(analysis=ANALYSIS | {"source": source, "latency": latency} | more)


@pytest.mark.parametrize("source", SOURCES)
def test_a_healthy_revision_is_promoted_step_by_step(play, operator, source):
    old = play.begin(counted_by(source))
    new = play.change()
    play.until_promoted(new)
    assert intended_weights(operator.proxy, play.servers.namespace) == [0, 20, 100]
    counted = {one["revision"]: one["requests"] for one in play.run["comparison"]}
    assert counted[old] > 0
    assert counted[new] > 0


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("behaviour", "reason"), [(WRONG, "ErrorRate"), (SLOW, "Latency")], ids=["errors", "slow"]
)
def test_a_failing_revision_is_rolled_back(play, stage, source, behaviour, reason):
    old = play.begin(counted_by(source))
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = behaviour
    play.until_rolled_back(old)
    failed = play.status["failedRevisions"]
    assert [(one["revision"], one["reason"]) for one in failed] == [(new, reason)]


def test_a_revision_that_streams_slowly_is_rolled_back(play, stage):
    old = play.begin(counted_by("Prometheus", timeToFirstToken={"slowAboveMilliseconds": 500}))
    with stage.intermission():
        new = play.change()
        stage.traffic.behaviours[new] = LATE_FIRST
    play.until_rolled_back(old)
    assert play.status["failedRevisions"][0]["reason"] == "TimeToFirstToken"


@pytest.mark.parametrize("source", SOURCES)
def test_without_prometheus_it_waits_for_it(play, prometheus, source):
    play.begin(counted_by(source) | {"steps": HELD})
    new = play.change()
    play.until_phase("Analyzing")
    prometheus.kill()
    try:
        holding = play.until_holding("MetricsUnavailable")
    finally:
        prometheus.start()
    assert "Prometheus has no answer" in holding["message"]
    assert play.run["weights"]["intended"] == 20
    play.until(lambda status: "holding" not in status["rollout"], "answers")
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


@pytest.mark.parametrize(
    ("source", "metric"),
    [("Prometheus", "modelserver_requests_total"), ("Istio", "istio_requests_total")],
)
def test_pods_that_nobody_has_scraped_are_waited_for(play, stage, source, metric):
    """A scrape that fails ends the series at once."""
    play.begin(counted_by(source) | {"steps": HELD})
    new = play.change()
    play.until_phase("Analyzing")
    stage.traffic.unscraped.add("chat")
    holding = play.until_holding("MetricsUnavailable")
    assert f"Prometheus has no {metric}" in holding["message"]
    stage.traffic.unscraped.discard("chat")
    play.until(lambda status: "holding" not in status["rollout"], "answers")
    assert play.obey("promote-full", new)["result"] == "Done"
    play.until_promoted(new)


@pytest.mark.parametrize("gate", ["timeToFirstToken", "interTokenTime"])
def test_a_gate_that_istio_has_no_numbers_for_is_refused(servers, gate):
    rollout = counted_by("Istio", **{gate: {"marginPercent": 50}})
    manifest = servers.manifest("chat", pinned(rollout=rollout))
    answer = servers.kube.ask(
        "POST", servers.path("chat").rpartition("/")[0], manifest, params={"dryRun": "All"}
    )
    assert answer.status_code == 422
    assert "Istio sees requests and no tokens" in answer.text
