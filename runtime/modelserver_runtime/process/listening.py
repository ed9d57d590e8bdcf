"""A server's socket: opens it, says where it is; imports little, so that it may come first."""

import socket

from modelserver_runtime.errors import InvalidConfiguration

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Connections queue up from now on, until the application answers them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidConfiguration(
            f"Cannot listen on {host}:{port}: {reason}",
            hint="Choose an address that is free with MODELSERVER_HOST and MODELSERVER_PORT.",
        ) from error


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
