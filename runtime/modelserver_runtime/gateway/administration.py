"""The second port, for the kubelet, Prometheus and the operator; clients never reach it."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, exposition

from modelserver_runtime.gateway.body import Receive, Scope, Send

type Page = tuple[int, bytes, bytes]  # status, content type, content
type Report = Callable[[], Mapping[str, Any]]

_JSON = b"application/json"


class Administration:
    """An ASGI application.

    `readiness` says whether it is `ready`, and what else of it; `reports` what is at further paths.
    """

    def __init__(
        self,
        readiness: Report,
        registry: CollectorRegistry,
        reports: Mapping[str, Report] | None = None,
    ) -> None:
        self._readiness = readiness
        self._registry = registry
        self._reports = reports or {}

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
                report = self._readiness()
                return 200 if report["ready"] else 503, _JSON, orjson.dumps(report)
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                encode, kind = exposition.choose_encoder(accept)
                return 200, kind.encode(), encode(self._registry)
            case path if path in self._reports:
                return 200, _JSON, orjson.dumps(self._reports[path]())
            case path:
                known = ", ".join(("/livez", "/readyz", "/metrics", *self._reports))
                message = f"There is no {path}; there are {known}"
                return 404, _JSON, orjson.dumps({"error": message})
