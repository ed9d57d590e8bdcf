"""The file of the route, the second port, and the router as a process: killed, drained."""

import contextlib
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelserver_runtime.gateway.administration import Administration
from modelserver_runtime.gateway.counts import EDGES_SECONDS, Histogram, Tally
from modelserver_runtime.gateway.doors import run_to_end
from modelserver_runtime.gateway.metrics import registry_of
from modelserver_runtime.gateway.route import read_route
from modelserver_runtime.gateway.route_file import RouteFile
from modelserver_runtime.gateway.status import Status
from support.runtime_process import ROOT, runtime_process
from support.waiting import wait_until
from support.web import CANARY, STABLE, Upstream, json_answer, serving, world

LISTENING = "Listening on (http://[^;]+); administration on (http://.+)"


def document(weight=0, version="1", **more):
    return json.dumps(
        {
            "version": version,
            "server": "chat",
            "stable": STABLE,
            "revisions": {STABLE: {"url": "http://s"}, CANARY: {"url": "http://c"}},
            "weights": {STABLE: 100 - weight, CANARY: weight},
            **more,
        }
    )


def swap(folder: Path, name: str, content: str) -> None:
    """As the kubelet does it: another folder behind the link ..data, in one step."""
    (folder / name).mkdir()
    (folder / name / "route.json").write_text(content)
    (folder / "..new").symlink_to(name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "route.json").is_symlink():
        (folder / "route.json").symlink_to("..data/route.json")


def test_a_swapped_link_is_noticed_and_a_broken_file_changes_nothing(tmp_path, caplog):
    followed = []
    tally = Tally()
    file = RouteFile(tmp_path / "route.json", followed.append, tally)
    file.look()
    assert "cannot be read" in file.problem
    swap(tmp_path, "..1", document(5))
    file.look()
    file.look()
    assert [one.weights[CANARY] for one in followed] == [5]
    swap(tmp_path, "..2", '{"version": 7')
    file.look()
    assert "is no route" in file.problem
    assert "the route before it still holds" in caplog.text
    swap(tmp_path, "..3", document(25))
    file.look()
    assert (file.problem, followed[-1].weights[CANARY]) == ("", 25)
    assert tally.reloads == {"followed": 2, "refused": 2}


def test_keys_of_a_newer_operator_do_not_stop_an_older_router(tmp_path):
    followed = []
    path = tmp_path / "route.json"
    path.write_text(document(5, newKey={"a": 1}))
    RouteFile(path, followed.append, Tally()).look()
    assert len(followed) == 1


@pytest.fixture
async def admin(tmp_path):
    canary = Upstream("canary", json_answer({}, 500))
    async with world(Upstream("stable"), canary) as here:
        file = RouteFile(tmp_path / "none", here.router.follow, here.router.tally)
        file.problem = ""
        status = Status(
            router=here.router, route_file=file, started_at=datetime(2026, 11, 21, 10, tzinfo=UTC)
        )
        reports = {"/router/status": status.as_json}
        app = Administration(status.readiness, registry_of(status), reports)
        async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
            here.admin = client
            here.file = file
            yield here


async def test_the_status_says_what_clients_were_answered(admin):
    admin.follow(weight=50)
    for _ in range(4):
        await admin.client.post("/v1/chat/completions", json={})
    found = (await admin.admin.get("/router/status")).json()
    assert found["version"] == "1"
    assert found["startedAt"] == "2026-11-21T10:00:00Z"
    assert found["held"] == {"requests": 0, "bytes": 0}
    assert found["routeProblem"] == ""
    assert found["edgesSeconds"] == list(EDGES_SECONDS)
    canary = found["revisions"][CANARY]
    assert (canary["requests"], canary["errors"], canary["noAnswer"]) == (2, 2, 0)
    assert len(canary["latency"]) == len(EDGES_SECONDS) + 1
    assert sum(canary["latency"]) == 2
    assert found["shadow"]["copied"] == 0
    assert found["experiments"] == {}


async def test_the_metrics_say_the_same_as_the_status(admin):
    admin.follow(weight=50)
    for _ in range(4):
        await admin.client.post("/v1/chat/completions", json={})
    page = (await admin.admin.get("/metrics")).text
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    common = [("experiment", ""), ("revision", CANARY)]
    name = "modelserver_router_requests_total"
    assert samples[(name, ("code", "5xx"), *common)] == 2
    assert samples[("modelserver_router_request_duration_seconds_count", *common)] == 2
    assert samples[("modelserver_router_weight", ("revision", CANARY))] == 50
    assert samples[("modelserver_router_route_valid",)] == 1


async def test_every_metric_and_every_key_of_the_status_is_in_the_documentation(admin):
    page = (ROOT / "docs/router.md").read_text()
    text = (await admin.admin.get("/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (modelserver_router_\w+) (\w+)$", text, re.MULTILINE))
    assert set(kinds) == set(re.findall(r"`(modelserver_router_\w+)`", page))
    shown = json.loads(page.split("```json")[-1].split("```")[0])
    said = (await admin.admin.get("/router/status")).json()
    assert set(said) == set(shown)
    assert set(said["revisions"][STABLE]) == set(shown["revisions"][STABLE])
    assert set(said["shadow"]) == set(shown["shadow"])


def test_the_route_of_the_documentation_is_followed():
    page = (ROOT / "docs/router.md").read_text()
    shown = page.split("```json")[1].split("```")[0]
    assert read_route(shown.encode()).hold.release_concurrency == 32


async def test_readiness_follows_the_route_and_the_drain(admin):
    assert (await admin.admin.get("/readyz")).status_code == 200
    admin.router.is_draining = True
    answer = await admin.admin.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "draining")
    assert (await admin.admin.get("/livez")).status_code == 200
    passed = await admin.client.post("/v1/chat/completions", json={})
    assert passed.headers["connection"] == "close"
    admin.router.is_draining, admin.router.way, admin.file.problem = False, None, "no file"
    assert (await admin.admin.get("/readyz")).json()["reason"] == "no file"
    refused = await admin.client.post("/v1/chat/completions", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_route")
    assert (await admin.admin.get("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (320, -2), (321, -1)]
)
def test_an_edge_belongs_to_the_bucket_below_it(seconds, bucket):
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.buckets[bucket] == 1


@pytest.mark.slow
def test_the_router_starts_without_what_models_need():
    """Also without what the other commands need: it is to be small and quick."""
    code = (
        "import sys; from modelserver_runtime.__main__ import _parser; _parser(); "
        "import modelserver_runtime.gateway.process; print(*sys.modules, sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"torch", "transformers", "fastapi", "starlette", "numpy", "huggingface_hub", "pandas"}
    of_others = {"redis", "opentelemetry", "httpx", "httpx2", "requests", "jsonschema_rs", "PIL"}
    assert not loaded & (heavy | of_others)


# -- processes -----------------------------------------------------------------------------------


class Traffic:
    """Clients that ask without a pause, until they are told to stop."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.url = url
        self.statuses: list[int | str] = []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._is_over.is_set():
                try:
                    answer = client.post("/v1/chat/completions", json={"n": 1})
                    self.statuses.append(answer.status_code)
                except httpx.HTTPError as error:
                    self.statuses.append(repr(error))

    def wait_for(self, more: int) -> None:
        wanted = len(self.statuses) + more
        wait_until(lambda: len(self.statuses) >= wanted, timeout=120, what="answers", interval=0.01)

    def end(self) -> list[int | str]:
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
        return self.statuses


UPSTREAM = """
import sys, uvicorn
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", lifespan="off")
"""


@contextlib.contextmanager
def upstream_process(port: int):
    process = subprocess.Popen([sys.executable, "-c", UPSTREAM, str(port)])
    try:
        wait_until(lambda: _answers(port), timeout=60, what="an upstream", interval=0.05)
        yield process
    finally:
        process.kill()
        process.wait(30)


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def router_process(folder: Path, **environment: str):
    arguments = ["--route", str(folder / "route.json"), "--port", "0", "--admin-port", "0"]
    with runtime_process("modelserver_runtime", "gateway", *arguments, **environment) as process:
        line = process.wait_for_line("Listening on")
        process.addresses = re.search(LISTENING, line).groups()
        yield process


def status_of(process) -> dict:
    return httpx.get(f"{process.addresses[1]}/router/status").json()


def put(folder: Path, name: str, ports: dict[str, int], weight: int) -> None:
    revisions = {key: {"url": f"http://127.0.0.1:{port}"} for key, port in ports.items()}
    swap(folder, f"..{name}", document(weight, name, revisions=revisions))


@pytest.mark.slow
def test_no_request_fails_while_weights_change_and_a_canary_is_killed(tmp_path):
    ports = {STABLE: _free_port(), CANARY: _free_port()}
    put(tmp_path, "v0", ports, 0)
    with (
        upstream_process(ports[STABLE]),
        upstream_process(ports[CANARY]) as canary,
        router_process(tmp_path) as router,
    ):
        traffic = Traffic(router.addresses[0])
        for index, weight in enumerate((5, 25, 50, 100, 50), start=1):
            put(tmp_path, f"v{index}", ports, weight)
            wait_until(
                lambda index=index: status_of(router)["version"] == f"v{index}",
                timeout=60,
                what=f"v{index}",
            )
            before = status_of(router)["revisions"]
            traffic.wait_for(200)
            after = status_of(router)["revisions"]
            _assert_share(before, after, weight)
        assert set(traffic.statuses) == {200}
        # What was under way in the killed process is lost; what comes after it is not.
        put(tmp_path, "v9", ports, 0)
        wait_until(lambda: status_of(router)["version"] == "v9", timeout=60, what="v9")
        traffic.wait_for(50)
        canary.send_signal(signal.SIGKILL)
        canary.wait(30)
        put(tmp_path, "v10", ports, 50)
        wait_until(
            lambda: status_of(router)["revisions"][CANARY]["noAnswer"] > 20,
            timeout=60,
            what="requests that stable answered instead",
        )
        assert set(traffic.end()) == {200}


def _assert_share(before: dict, after: dict, weight: int) -> None:
    """Within three standard deviations of chance; and the urn is much nearer than that."""
    counted = {name: after[name]["requests"] - before[name]["requests"] for name in after}
    total = sum(counted.values())
    expected, share = total * weight / 100, weight / 100
    assert abs(counted[CANARY] - expected) <= 3 * (total * share * (1 - share)) ** 0.5 + 20


@pytest.mark.slow
def test_sigterm_ends_the_router_without_losing_a_request(tmp_path):
    port = _free_port()
    put(tmp_path, "v0", {STABLE: port, CANARY: port}, 0)
    settings = {"MODELSERVER_LAME_DUCK_SECONDS": "1", "MODELSERVER_DRAIN_SECONDS": "30"}
    with upstream_process(port), router_process(tmp_path, **settings) as router:
        url, admin = router.addresses
        with httpx.Client(base_url=url, timeout=60) as client:
            assert client.post("/x", json={}).status_code == 200
            router.process.send_signal(signal.SIGTERM)
            wait_until(
                lambda: httpx.get(f"{admin}/readyz").status_code == 503,
                timeout=30,
                what="not ready",
                interval=0.01,
            )
            answer = client.post("/x", json={})
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert router.process.wait(60) == 0


@pytest.mark.slow
def test_a_router_without_a_route_says_what_is_missing(tmp_path):
    with runtime_process("modelserver_runtime", "gateway") as process:
        assert process.process.wait(60) == 2
        assert "--route must name the file" in process.output


def test_routers_and_gateways_may_have_as_many_connections_as_the_machine_allows(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "level", logging.INFO)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    seen = []

    async def look():
        seen.append(resource.getrlimit(resource.RLIMIT_NOFILE))

    try:
        run_to_end(look())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert seen == [(before[1], before[1])]
