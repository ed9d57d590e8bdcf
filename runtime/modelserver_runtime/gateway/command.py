"""`modelserver-runtime gateway`: its flags, and its start."""

from collections.abc import Callable
from socket import socket

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Settings
from modelserver_runtime.settings.access import AccessSettings
from modelserver_runtime.settings.boundary import BoundarySettings
from modelserver_runtime.settings.gateway import ClusterGatewaySettings

TEXT = "divide requests among the revisions of a server, or among all models of a cluster"
# The settings that it reads, and that therefore are its flags.
FIELDS = frozenset(
    {
        *("route", "host", "port", "admin_port", "drain_seconds"),
        *("lame_duck_seconds", "shadow_max_concurrent", "shadow_max_body_bytes"),
        *("shadow_max_bytes", "termination_log", "log_level", "log_format", "config"),
        *ClusterGatewaySettings.model_fields,
        *AccessSettings.model_fields,
        *BoundarySettings.model_fields,
        *("max_body_bytes", "redis_timeout_seconds"),
    }
)

type Say = Callable[[str], None]
type Listen = Callable[[str, int], socket]


def gateway(settings: Settings, listen: Listen, say: Say) -> None:
    """Returns when drained."""
    if settings.cluster:
        _gateway_of_cluster(settings, listen, say)
        return
    if settings.route is None:
        raise InvalidConfiguration(
            "The router has no route: --route must name the file with it, or --cluster be given",
            hint="docs/router.md shows one.",
        )
    sockets = _both_ports(settings, listen)
    from modelserver_runtime.gateway.process import run_router  # noqa: PLC0415  takes a moment

    run_router(settings, settings.route, sockets, say)


def _gateway_of_cluster(settings: Settings, listen: Listen, say: Say) -> None:
    if settings.route is not None:
        raise InvalidConfiguration(
            "--route and --cluster were both given; a gateway follows one of them",
            hint="docs/gateway.md says which is for what.",
        )
    sockets = _both_ports(settings, listen)
    from modelserver_runtime.gateway.front.process import run_gateway  # noqa: PLC0415  as below

    run_gateway(settings, sockets, listen, say)


def _both_ports(settings: Settings, listen: Listen) -> tuple[socket, socket]:
    """The clients', and the one for administration."""
    return listen(settings.host, settings.port), listen(settings.host, settings.admin_port)
