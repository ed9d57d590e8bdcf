"""The gateway's ASGI applications: the front door, and one for the port of each server."""

from collections.abc import Callable

from modelserver_runtime.errors import ModelNotFound
from modelserver_runtime.gateway.body import Receive, Scope, Send
from modelserver_runtime.gateway.cluster import Directory
from modelserver_runtime.gateway.front.boundary import Boundary
from modelserver_runtime.gateway.front.exchange import Exchange, Hall
from modelserver_runtime.gateway.front.reply import Reply
from modelserver_runtime.gateway.front.routes import Route, route_at_port, route_of
from modelserver_runtime.gateway.front.showing import Showing
from modelserver_runtime.gateway.request import Request

_NO_CONTENT = 204

type Find = Callable[[str, Directory], Route]


class Front:
    """`directory` is asked anew for each request."""

    def __init__(
        self, hall: Hall, boundary: Boundary, directory: Callable[[], Directory], find: Find
    ) -> None:
        self.is_draining = False
        self._is_port = False
        self._is_last: Callable[[], bool] = lambda: self.is_draining
        self._hall = hall
        self._boundary = boundary
        self._directory = directory
        self._find = find
        self.showing: Showing | None = None  # of the page, where there is one

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request.of(scope)
        reply = Reply(send, self._boundary, request)
        reply.is_last_of_connection = self._is_last()
        if self._boundary.is_preflight(request.method, request.headers):
            await reply.empty(_NO_CONTENT, self._boundary.preflight(request.headers))
            return
        if self.showing is not None and self.showing.has(request):
            await self.showing.run(request, reply, receive)
            return
        exchange = Exchange(self._hall, self._directory(), request, reply)
        exchange.is_at_port = self._is_port
        await exchange.run(lambda known: self._find(request.path, known), receive)

    def at_port(self, port: int) -> "Front":
        """For the port of one server, whose clients know nothing of a gateway."""

        def find(path: str, directory: Directory) -> Route:
            key = directory.by_port.get(port)
            if key is None:
                raise ModelNotFound("The server that this port belonged to is gone")
            return route_at_port(path, directory.servers[key])

        front = Front(self._hall, self._boundary, self._directory, find)
        front._is_port = True
        front._is_last = lambda: self.is_draining
        return front


def front_door(hall: Hall, boundary: Boundary, directory: Callable[[], Directory]) -> Front:
    return Front(hall, boundary, directory, route_of)
