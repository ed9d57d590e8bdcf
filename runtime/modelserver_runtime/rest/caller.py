"""Where a request's caller is between `rest.protection`, which knows it, and a route's context."""

from typing import Final

# A name in the ASGI scope; on public routes it is not there.
CALLER: Final = "modelserver.caller"
