"""What each path means at the gateway: how long it may take, and which scope it needs. Pure."""

import pytest

from modelserver_runtime.access.principal import Scope
from modelserver_runtime.gateway.cluster import Directory, ServedModel, ServerKey
from modelserver_runtime.gateway.front.routes import found, route_at_port, route_of, scope_of

CHAT = ServedModel(key=ServerKey("models", "chat"), names=("chat", "Org/Chat"))
DIRECTORY = Directory.of([CHAT])

ROUTES = [
    # (method, path, seconds, scope)
    ("GET", "/health", 5, Scope.INFERENCE),
    ("GET", "/models", None, Scope.INFERENCE),
    ("GET", "/v1/models", None, Scope.INFERENCE),
    ("GET", "/v1/models/Org/Chat", None, Scope.INFERENCE),
    ("GET", "/models/chat", 5, Scope.INFERENCE),
    ("GET", "/models/chat/status", 5, Scope.INFERENCE),
    ("GET", "/models/Org/Chat/status", 5, Scope.INFERENCE),
    ("POST", "/models/chat/generate", 30, Scope.INFERENCE),
    ("POST", "/models/models/chat/generate", 30, Scope.INFERENCE),
    ("GET", "/models/chat/health", 5, Scope.INFERENCE),
    ("GET", "/models/chat/readyz", 5, Scope.INFERENCE),
    ("POST", "/models/chat/v1/chat/completions", None, Scope.INFERENCE),
    ("POST", "/v1/chat/completions", None, Scope.INFERENCE),
    ("GET", "/models/chat/metrics", 5, Scope.METRICS),
    ("GET", "/metrics", None, Scope.METRICS),
    ("GET", "/models/chat/admin/keys/list", None, Scope.ADMIN),
    ("POST", "/admin/keys/generate", None, Scope.ADMIN),
    ("POST", "/models/chat/models/load", None, Scope.MODELS),
    ("GET", "/models/chat/models", None, Scope.INFERENCE),
    ("POST", "/v2/repository/models/chat/load", None, Scope.MODELS),
    ("POST", "/administration", None, Scope.INFERENCE),
]


@pytest.mark.parametrize(("method", "path", "seconds", "scope"), ROUTES)
def test_a_path_has_its_time_and_its_scope(method, path, seconds, scope):
    route = route_of(path, DIRECTORY)
    assert route.timeout_seconds == seconds
    assert scope_of(method, route) is scope


def test_only_the_health_is_public():
    assert [path for _, path, *_ in ROUTES if route_of(path, DIRECTORY).is_public] == ["/health"]


@pytest.mark.parametrize("path", ["/models/nobody", "/models/nobody/status", "/v1/models/nobody"])
def test_what_leads_nowhere_is_known_and_said_later(path):
    wanted = found(path, lambda: route_of(path, DIRECTORY))
    assert wanted.failure is not None
    assert wanted.route.path == path
    assert not wanted.route.is_public


@pytest.mark.parametrize("path", ["/health", "/models/other/generate", "/v1/models"])
def test_at_a_server_s_port_every_path_is_that_server_s(path):
    route = route_at_port(path, CHAT)
    assert (route.model, route.path, route.own) == (CHAT, path, None)
    assert route.timeout_seconds is None
