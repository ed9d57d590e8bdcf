"""The second port, for the kubelet, Prometheus and the operator; clients never reach it."""

from collections.abc import Callable

import orjson

from modelserver_runtime.gateway.body import Receive, Scope, Send
from modelserver_runtime.gateway.status import Status

type Page = tuple[int, bytes, bytes]

_JSON = b"application/json"


class Admin:
    """An ASGI application."""

    def __init__(self, status: Status, render_metrics: Callable[[str], tuple[bytes, str]]) -> None:
        self._status = status
        self._render_metrics = render_metrics

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, kind, content = self._page(scope)
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _page(self, scope: Scope) -> Page:
        match scope["path"]:
            case "/livez":
                return 200, _JSON, b'{"live":true}'
            case "/readyz":
                return self._readiness()
            case "/router/status":
                return 200, _JSON, orjson.dumps(self._status.as_json())
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                content, kind = self._render_metrics(accept)
                return 200, kind.encode(), content
            case path:
                message = f"There is no {path}; try /livez, /readyz, /metrics or /router/status"
                return 404, _JSON, orjson.dumps({"error": message})

    def _readiness(self) -> Page:
        if self._status.is_ready:
            return 200, _JSON, b'{"ready":true}'
        is_draining = self._status.router.is_draining
        reason = "draining" if is_draining else self._status.route_file.problem
        return 503, _JSON, orjson.dumps({"ready": False, "reason": reason})
