"""What the operator writes for the built-in router and what the router reads: the same."""

import pytest

from modelserver_operator.apis.traffic import Router
from modelserver_operator.resources.router import ADMIN_PORT, ADMIN_PORT_NAME, make_router
from modelserver_runtime import settings as runtime
from modelserver_runtime.__main__ import _parser
from modelserver_runtime.gateway.route import read_route
from support.planning import a_server
from support.routes import CANARY, IMAGE, STABLE, STORIES, children_of, story

CASES = [path.name for path in STORIES.iterdir() if Router.GATEWAY in story(path.name)[2]]
DRAIN_SECONDS = 33


@pytest.fixture
def pod():
    server = a_server({"runtime": {"drainSeconds": DRAIN_SECONDS}})
    return make_router(server, IMAGE)["spec"]["template"]["spec"]


@pytest.fixture
def settings(pod, monkeypatch):
    """As the command reads them in that pod."""
    [container] = pod["containers"]
    for one in container["env"]:
        monkeypatch.setenv(one["name"], one["value"])
    flags = vars(_parser().parse_args(container["args"]))
    assert flags.pop("command") == "gateway"
    return runtime.load_settings(**{name: one for name, one in flags.items() if one is not None})


@pytest.mark.parametrize("case", CASES)
def test_the_router_understands_every_route(case):
    server, route, _ = story(case)
    config_map = next(
        one for one in children_of(Router.GATEWAY, server, route) if one["kind"] == "ConfigMap"
    )
    read = read_route(config_map["data"]["route.json"].encode())
    assert (read.server, read.stable, read.weights) == ("chat", STABLE, dict(route.weights))
    assert read.timeout_seconds == route.timeout_seconds
    assert read.revisions[STABLE].address == (f"chat-{STABLE}", 80)
    assert [one.name for one in read.experiments] == [one.name for one in route.experiments]
    assert (read.mirror is None, read.hold is None) == (route.mirror is None, route.hold is None)
    if read.mirror is not None:
        assert (read.mirror.revision, read.mirror.percent) == (CANARY, route.mirror.percent)
        assert read.mirror.baseline_percent == route.mirror.baseline_percent
    if read.hold is not None:
        assert read.hold.max_requests == route.hold.max_requests
        assert read.hold.max_bytes == route.hold.max_bytes
        assert read.hold.max_seconds == route.hold.max_seconds
    if read.sticky is not None:
        assert (read.sticky.cookie, read.sticky.seconds) == ("modelserver-track", 600)


def test_every_variable_is_a_setting(pod):
    [container] = pod["containers"]
    names = {one["name"].removeprefix(runtime.PREFIX).lower() for one in container["env"]}
    assert names <= {*runtime.Settings.model_fields, "home"}


def test_the_router_listens_where_it_is_asked(settings, pod):
    [container] = pod["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"http": settings.port, ADMIN_PORT_NAME: settings.admin_port}
    assert settings.admin_port == ADMIN_PORT
    assert settings.host == "0.0.0.0"
    probes = (container["readinessProbe"], container["livenessProbe"])
    assert {probe["httpGet"]["port"] for probe in probes} == {ADMIN_PORT_NAME}


def test_the_route_is_where_it_is_mounted(settings, pod):
    [container] = pod["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert str(settings.route.parent) == mounts["route"]


def test_there_is_time_to_drain(settings, pod):
    """preStop, then the time in which new requests are still answered, then draining."""
    [container] = pod["containers"]
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert settings.drain_seconds == DRAIN_SECONDS
    needed = asleep + settings.lame_duck_seconds + settings.drain_seconds
    assert pod["terminationGracePeriodSeconds"] > needed
