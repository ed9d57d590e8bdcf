"""Opens the server's socket; imports nothing large, so that it can be the first to happen."""

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
