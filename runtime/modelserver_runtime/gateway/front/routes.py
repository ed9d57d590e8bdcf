"""What a path means at the gateway: something of its own, or a model's route. Pure.

/health  /models  /models/{name}/status      the gateway's own
/v1/models                                   every model of the cluster
/models/{name}/...                           the route of that model
everything else                              the same route of the model that the body names

At the port of one server every path is that server's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from modelserver_runtime.access.principal import Scope
from modelserver_runtime.errors import ModelNotFound, RequestFailure, ResourceNotFound
from modelserver_runtime.gateway.cluster import Directory, ServedModel

HEALTH_SECONDS = 5.0
GENERATE_SECONDS = 30.0
_MODELS = "/models/"
_OPENAI_MODELS = "/v1/models"
# What a pod answers from memory; a slow answer is no answer.
QUICK = frozenset(
    {
        *("/health", "/livez", "/readyz", "/ready", "/startupz", "/status", "/metrics"),
        *("/v2/health/live", "/v2/health/ready"),
    }
)
_SCOPES = {
    "/admin": Scope.ADMIN,
    "/models": Scope.MODELS,
    "/v2/repository": Scope.MODELS,
    "/metrics": Scope.METRICS,
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Own(StrEnum):
    HEALTH = "health"
    MODELS = "models"
    OPENAI_MODELS = "openai_models"
    STATUS = "status"
    OPENAI_MODEL = "openai_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`own` is answered here; else `path` is asked of `model`, or of the one that the body names.

    `timeout_seconds` is the route's own, None where the model's holds.
    """

    path: str
    own: Own | None = None
    model: ServedModel | None = None
    timeout_seconds: float | None = None
    is_generate: bool = False

    @property
    def is_public(self) -> bool:
        return self.own is Own.HEALTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`failure` is why it leads nowhere."""

    route: Route
    failure: RequestFailure | None = None


def found(path: str, find: Callable[[], Route]) -> Found:
    """What a path means, to be told to those only who may know it."""
    try:
        return Found(route=find())
    except RequestFailure as failure:
        return Found(route=Route(path=path), failure=failure)


def route_of(path: str, directory: Directory) -> Route:
    """Raises ModelNotFound, ResourceNotFound."""
    match path:
        case "/health":
            return Route(path=path, own=Own.HEALTH, timeout_seconds=HEALTH_SECONDS)
        case "/models":
            return Route(path=path, own=Own.MODELS)
        case "/v1/models":
            return Route(path=path, own=Own.OPENAI_MODELS)
        case _:
            return _other(path, directory)


def _other(path: str, directory: Directory) -> Route:
    if path.startswith(f"{_OPENAI_MODELS}/"):
        name = path.removeprefix(f"{_OPENAI_MODELS}/")
        return Route(path=path, own=Own.OPENAI_MODEL, model=required(name, directory))
    if path.startswith(_MODELS):
        return _of_model(path.removeprefix(_MODELS), directory)
    return Route(path=path)


def required(name: str, directory: Directory) -> ServedModel:
    model = directory.find(name)
    if model is None:
        raise ModelNotFound(
            f"There is no model {name!r} here; GET /v1/models lists all", param="model"
        )
    return model


def scope_of(method: str, route: Route) -> Scope:
    """The right that a key needs: what the pod itself would ask for."""
    if route.own is not None:
        return Scope.INFERENCE
    for prefix, scope in _SCOPES.items():
        if route.path == prefix or route.path.startswith(f"{prefix}/"):
            is_look = scope is Scope.MODELS and method in _SAFE_METHODS
            return Scope.INFERENCE if is_look else scope
    return Scope.INFERENCE


def _of_model(rest: str, directory: Directory) -> Route:
    """Names may have slashes; the longest that is a model's is meant."""
    parts = rest.split("/")
    for end in range(len(parts), 0, -1):
        model = directory.find("/".join(parts[:end]))
        if model is not None:
            return _inside(model, "/" + "/".join(parts[end:]))
    required(parts[0], directory)
    raise ResourceNotFound(f"There is no route /models/{rest}")


def _inside(model: ServedModel, path: str) -> Route:
    if path in {"/", "/status"}:
        return Route(path=path, own=Own.STATUS, model=model, timeout_seconds=HEALTH_SECONDS)
    if path == "/generate":
        return Route(path=path, model=model, timeout_seconds=GENERATE_SECONDS, is_generate=True)
    seconds = HEALTH_SECONDS if path in QUICK else None
    return Route(path=path, model=model, timeout_seconds=seconds)


def route_at_port(path: str, model: ServedModel) -> Route:
    """As if the client had reached a pod: no timeouts but the model's own."""
    return Route(path=path, model=model)
