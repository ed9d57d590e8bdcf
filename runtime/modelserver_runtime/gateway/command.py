"""`modelserver-runtime gateway`: its flags, and its start."""

from collections.abc import Callable
from socket import socket

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Settings

TEXT = "divide requests among the revisions of a server, as a route's file says"
# The settings that it reads, and that therefore are its flags.
FIELDS = frozenset(
    {
        *("route", "host", "port", "admin_port", "drain_seconds"),
        *("lame_duck_seconds", "shadow_max_concurrent", "shadow_max_body_bytes"),
        *("shadow_max_bytes", "termination_log", "log_level", "log_format", "config"),
    }
)

type Say = Callable[[str], None]


def gateway(settings: Settings, listen: Callable[[str, int], socket], say: Say) -> None:
    """Returns when drained."""
    if settings.route is None:
        raise InvalidConfiguration(
            "The router has no route: --route must name the file with it",
            hint="docs/router.md shows one.",
        )
    sockets = (
        listen(settings.host, settings.port),
        listen(settings.host, settings.admin_port),
    )
    from modelserver_runtime.gateway.process import run_router  # noqa: PLC0415  takes a moment

    run_router(settings, settings.route, sockets, say)
