"""A host's addresses: asked of DNS now and then, and not for each connection.

Each new connection would wait for DNS otherwise, and a revision whose name is slow to be found
would look like one that cannot be reached, which counts against it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

# CoreDNS lets names of a cluster live for five seconds, too.
_FRESH_SECONDS = 5.0

type Addresses = Sequence[str]
type LookUp = Callable[[str], Awaitable[Addresses]]


async def ask_dns(host: str) -> Addresses:
    """Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Host:
    """Whoever asks gets what is known, at once; only who asks first waits for DNS."""

    def __init__(self, name: str, clock: Callable[[], float], look_up: LookUp = ask_dns) -> None:
        self.name = name
        self._clock = clock
        self._look_up = look_up
        self._known: Addresses = ()
        self._problem = "it has no address"
        self._fresh_until = 0.0
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_looking(self) -> bool:
        return self._looking is not None

    async def addresses(self) -> Addresses:
        """Raises OSError if they were never known."""
        if self._known and self._clock() < self._fresh_until:
            return self._known
        if self._looking is None:
            self._looking = asyncio.create_task(self._ask())
        if not self._known:
            # Several may wait for one answer, and one that leaves does not end it.
            await asyncio.shield(self._looking)
            if not self._known:
                raise OSError(self._problem)
        return self._known

    async def _ask(self) -> None:
        """Addresses of before are better than none: a Service's hardly ever changes."""
        try:
            self._known = await self._look_up(self.name) or self._known
        except OSError as error:
            self._problem = error.strerror or str(error)
        finally:
            self._fresh_until = self._clock() + _FRESH_SECONDS
            self._looking = None

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
