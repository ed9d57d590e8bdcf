"""Counts by way of Prometheus: what is asked, what is made of the answer, and what is told."""

import json
import socket
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import yaml
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.rollout import Analysis, MetricSource
from modelserver_operator.cluster.measuring import MOST_BYTES, MeasuringProbe, measured, query_of
from modelserver_operator.cluster.progress import open_probe_session
from modelserver_operator.cluster.prometheus import NO_ANSWER, Prometheus
from modelserver_operator.plan.answers import Measured, SeriesQuestion
from modelserver_operator.plan.desired import desired_state
from modelserver_operator.plan.values import ChildKey
from modelserver_operator.rollout.counts import growth_of
from modelserver_operator.status.sight import sight_of
from modelserver_operator.status.situation import Situation
from support.planning import CONFIG
from support.running_world import running_world

STABLE, CANARY = "a1b2c3d4", "d4e5f6a7"
OLD, NEW = f"chat-{STABLE}-7d9f8-x2x4z", f"chat-{CANARY}-5c6b7-p0p1p"
OF_PODS = SeriesQuestion(
    source=MetricSource.PROMETHEUS, namespace="models", revisions={OLD: STABLE, NEW: CANARY}
)
OF_ISTIO = SeriesQuestion(
    source=MetricSource.ISTIO,
    namespace="models",
    revisions={f"chat-{STABLE}": STABLE, f"chat-{CANARY}": CANARY},
)
BEGAN = 1_795_759_200.0
LATENCY = "modelserver_request_duration_seconds_bucket"


def series(name, value, **labels):
    return {"metric": {"__name__": name, **labels}, "value": [0, str(value)]}


def scraped(pod, *, requests=20, errors=0, slow=0, first=0, gaps=0, job="pods", began=BEGAN):
    """What one scrape of a pod of the runtime has found, as the query puts it together."""
    told = {"pod": pod, "job": job, "instance": "192.0.2.7:8080", "container": "server"}
    return [
        series("modelserver_requests_total", requests - errors, code="200", **told),
        series("modelserver_requests_total", errors, code="500", **told),
        series(LATENCY, requests - slow, le="0.5", **told),
        series(LATENCY, requests, le="2.5", **told),
        series(LATENCY, requests, le="+Inf", **told),
        series("modelserver_time_to_first_token_seconds_bucket", first, le="+Inf", **told),
        series("modelserver_inter_token_seconds_bucket", gaps, le="+Inf", **told),
        series("process_start_time_seconds", began, **told),
    ]


def of_istio(revision, address, *, requests=20, errors=0, slow=0, port=15020):
    told = {"destination_workload": f"chat-{revision}", "job": "mesh", "container": "istio-proxy"}
    told["instance"] = f"{address}:{port}"
    latency = "istio_request_duration_milliseconds_bucket"
    return [
        series("istio_requests_total", requests - errors, response_code="200", **told),
        series("istio_requests_total", errors, response_code="503", **told),
        series(latency, requests - slow, le="500", response_code="200", **told),
        series(latency, requests, le="+Inf", response_code="200", **told),
    ]


def vector(*found):
    return {"resultType": "vector", "result": [one for some in found for one in some]}


def by_revision(found):
    return {one.revision: one.answer.tally for one in found.sources}


# -- what is asked ---------------------------------------------------------------------------------


def test_the_pods_own_metrics_are_asked_for_by_namespace_and_pod():
    assert query_of(OF_PODS) == (
        "sum by (__name__, pod, job, instance, container, code, le)"
        ' ({__name__=~"modelserver_requests_total|modelserver_request_duration_seconds_bucket'
        "|modelserver_time_to_first_token_seconds_bucket|modelserver_inter_token_seconds_bucket"
        '|process_start_time_seconds",namespace="models",'
        r'pod=~"chat\\-a1b2c3d4\\-7d9f8\\-x2x4z|chat\\-d4e5f6a7\\-5c6b7\\-p0p1p"})'
    )


def test_istio_is_asked_for_what_the_proxies_beside_the_models_say():
    asked = query_of(OF_ISTIO)
    assert 'reporter="destination",destination_workload_namespace="models"' in asked
    assert "istio_requests_total|istio_request_duration_milliseconds_bucket" in asked
    assert "response_code, le)" in asked


# -- what is made of the answer --------------------------------------------------------------------


def test_every_pod_is_a_source_of_its_own():
    found = measured(vector(scraped(OLD, requests=80, slow=5), scraped(NEW, errors=3)), OF_PODS)
    tallies = by_revision(found)
    assert (tallies[STABLE].requests, tallies[STABLE].latency.above(1.0)) == (80, 0)
    assert tallies[STABLE].latency.above(0.5) == 5
    assert (tallies[CANARY].requests, tallies[CANARY].errors) == (20, 3)
    assert len({one.source for one in found.sources}) == 2
    assert all(one.answer.began.timestamp() == BEGAN for one in found.sources)


def test_tokens_are_counted_where_the_runtime_does():
    tally = by_revision(measured(vector(scraped(NEW, first=7, gaps=63)), OF_PODS))[CANARY]
    assert (tally.first_token.count, tally.token_gaps.count) == (7, 63)


def test_istio_counts_in_milliseconds_and_by_workload():
    found = measured(
        vector(of_istio(STABLE, "192.0.2.1", requests=80), of_istio(CANARY, "192.0.2.2", errors=3)),
        OF_ISTIO,
    )
    tallies = by_revision(found)
    assert tallies[STABLE].latency.edges_seconds == (0.5,)
    assert (tallies[CANARY].requests, tallies[CANARY].errors) == (20, 3)
    assert {one.answer.began for one in found.sources} == {None}


@pytest.mark.parametrize(
    ("found", "question"),
    [
        (vector(scraped(NEW), scraped(NEW, job="annotated")), OF_PODS),
        (
            vector(of_istio(CANARY, "192.0.2.2"), of_istio(CANARY, "192.0.2.2", port=15090)),
            OF_ISTIO,
        ),
    ],
    ids=["pods", "istio"],
)
def test_a_pod_that_two_jobs_scrape_counts_once(found, question):
    assert by_revision(measured(found, question))[CANARY].requests == 20
    assert len(measured(found, question).sources) == 1


def test_two_pods_of_a_workload_are_two_sources():
    found = measured(vector(of_istio(CANARY, "192.0.2.2"), of_istio(CANARY, "192.0.2.3")), OF_ISTIO)
    assert len({one.source for one in found.sources}) == 2


def test_pods_that_were_not_asked_about_do_not_count():
    found = measured(vector(scraped(OLD), scraped("chat-9-9-9", requests=999)), OF_PODS)
    assert set(by_revision(found)) == {STABLE}


@pytest.mark.parametrize("question", [OF_PODS, OF_ISTIO], ids=["pods", "istio"])
def test_without_series_it_is_said_which_are_missing(question):
    found = measured(vector(), question)
    assert found.sources == ()
    assert "_requests_total whose" in found.problem


@given(st.recursive(st.none() | st.text() | st.floats() | st.booleans(), st.lists, max_leaves=6))
def test_whatever_is_answered_is_an_answer_or_none(data):
    for answer in (data, {"resultType": data}, {"resultType": "vector", "result": data}):
        try:
            found = measured(answer, OF_PODS)
        except NO_ANSWER:
            continue
        assert found.problem


# -- restarts --------------------------------------------------------------------------------------


def test_a_pod_that_restarts_is_not_lost_in_a_sum(running_pods):
    world, old, new = running_pods
    question = SeriesQuestion(
        source=MetricSource.PROMETHEUS, namespace="models", revisions={OLD: old, NEW: new}
    )

    def seen(*scrapes):
        return look(world, measured=measured(vector(*scrapes), question)).answers.readings

    before = seen(scraped(OLD, requests=1000), scraped(NEW, requests=500, errors=5))
    after = seen(scraped(OLD, requests=1100), scraped(NEW, requests=40, errors=4))
    growth = growth_of(before, after, since=world.now)
    assert (growth.counts[old].requests, growth.counts[new].requests) == (100, 40)
    assert growth.counts[new].errors == 4


# -- a run that is counted so ----------------------------------------------------------------------


@pytest.fixture
def running_pods():
    return running(source="Prometheus")


def running(*, source, phase="Analyzing"):
    spec = {"strategy": "Canary", "analysis": {"source": source}}
    world, old, new = running_world(phase, spec=spec)
    world.settle()
    return world, old, new


def look(world, **observed):
    seen = replace(world.observe(), **observed)
    server = world.server()
    plan = desired_state(server, seen, CONFIG, world.now)
    situation = Situation(server=server, observed=seen, plan=plan, now=world.now)
    return sight_of(situation, plan.wish)


def test_prometheus_is_asked_when_it_is_time_and_pods_are_not():
    world, old, new = running(source="Istio")
    question = world.plan().series
    assert question.revisions == {f"chat-{old}": old, f"chat-{new}": new}
    assert (question.source, world.plan().questions.models) == (MetricSource.ISTIO, ())
    counted = world.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.manifest["status"]["rollout"]["countedAt"] = counted
    assert world.plan().series is None


@pytest.mark.parametrize(
    ("source", "phase"), [("Pods", "Analyzing"), ("Auto", "Analyzing"), ("Istio", "Settling")]
)
def test_prometheus_is_not_asked_where_nobody_needs_it(source, phase):
    world, *_ = running(source=source, phase=phase)
    assert world.plan().series is None


def test_why_prometheus_says_nothing_is_told(running_pods):
    world, *_ = running_pods
    found = look(world, measured=Measured(problem="Prometheus has no answer: it is away"))
    assert (found.answers, found.metrics_unavailable) == (
        None,
        "Prometheus has no answer: it is away",
    )


def test_a_look_at_which_nobody_was_asked_is_no_failure(running_pods):
    world, *_ = running_pods
    found = look(world)
    assert (found.answers, found.metrics_unavailable) == (None, "")


def test_slow_is_what_stable_was_not_by_the_same_source(running_pods):
    world, old, new = running_pods
    asked = replace(OF_PODS, revisions={OLD: old, NEW: new})
    found = measured(vector(scraped(OLD, requests=100, slow=5)), asked)
    assert look(world, measured=found).answers.edges.latency == 500


@pytest.mark.parametrize("gate", ["timeToFirstToken", "interTokenTime"])
def test_istio_is_not_asked_about_tokens(gate):
    given = {"source": "Istio", gate: {"marginPercent": 50}}
    with pytest.raises(ValueError, match="Istio sees requests and no tokens"):
        Analysis.model_validate_json(json.dumps(given))
    Analysis.model_validate_json(json.dumps(given | {"source": "Prometheus"}))


# -- the scrape that is shipped --------------------------------------------------------------------


def test_the_shipped_monitor_finds_the_pods_and_their_port():
    file = Path(__file__).parents[2] / "manifests" / "monitoring" / "pod_monitor.yaml"
    monitor = yaml.safe_load(file.read_text())["spec"]
    world, old, _ = running(source="Prometheus")
    template = world.deployment(old)["spec"]["template"]
    asked = {one["key"] for one in monitor["selector"]["matchExpressions"]}
    assert asked <= template["metadata"]["labels"].keys()
    ports = {port["name"] for one in template["spec"]["containers"] for port in one["ports"]}
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in ports
    router = world.children[ChildKey("Deployment", "chat-router")]
    assert not asked <= router["spec"]["template"]["metadata"]["labels"].keys()


# -- the wire --------------------------------------------------------------------------------------


@pytest.fixture
async def ask():
    """Asks a Prometheus that gives this answer; returns what is made of it, and what was asked."""
    said, asked = [], []

    async def answer(request):
        asked.append((request.method, request.path, parse_qs(await request.text())))
        return web.Response(body=said[0][1], status=said[0][0])

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()

    async def ask(body=b"", *, status=200, question=OF_PODS, url=None):
        said[:] = [(status, body)]
        here = f"http://127.0.0.1:{listener.getsockname()[1]}/prometheus/"
        async with open_probe_session() as session:
            prometheus = Prometheus(session, here if url is None else url)
            return await MeasuringProbe(prometheus).ask(question), asked

    yield ask
    await runner.cleanup()


async def test_an_answer_comes_by_one_request(ask):
    body = json.dumps({"status": "success", "data": vector(scraped(NEW))}).encode()
    found, asked = await ask(body)
    assert [one.revision for one in found.sources] == [CANARY]
    assert asked == [("POST", "/prometheus/api/v1/query", {"query": [query_of(OF_PODS)]})]


REFUSAL = json.dumps({"status": "error", "error": "unknown function"}).encode()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (REFUSAL, 400, "unknown function"),
        (b"<html>", 502, "JSONDecodeError"),
        (b"[]", 200, "TypeError"),
        (b"x" * (MOST_BYTES + 1), 200, "more than"),
        (b'{"status": "success", "data": {"resultType": "scalar"}}', 200, "a scalar"),
    ],
    ids=["refused", "a page", "other JSON", "too long", "a number"],
)
async def test_what_is_no_answer_is_told_in_a_sentence(ask, body, status, words):
    found, _ = await ask(body, status=status)
    assert found.sources == ()
    assert found.problem.startswith("Prometheus has no answer: ")
    assert words in found.problem


async def test_nobody_is_asked_where_nobody_is_configured(ask):
    found, asked = await ask(url="")
    assert "MODELSERVER_OPERATOR_PROMETHEUS_URL" in found.problem
    assert asked == []


async def test_nobody_is_asked_about_no_pods(ask):
    found, asked = await ask(question=replace(OF_PODS, revisions={}))
    assert (found.problem, asked) == ("no pod of the revisions is ready", [])
