"""Lets nobody past without a key, but to the routes of one list; and says what is left of limits.

A layer around all routes and not a dependency of each, so that no route can forget it, and that a
body is not read before its sender is known. A path that is not in `PUBLIC` is protected, whether a
route is there or not.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelserver_runtime.access.addresses import client_address, is_trusted_peer
from modelserver_runtime.access.guard import Arrival, Passage
from modelserver_runtime.access.ledger import Usage
from modelserver_runtime.access.limits.headers import limit_headers
from modelserver_runtime.access.principal import Scope as KeyScope
from modelserver_runtime.rest.caller import CALLER
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.errors import response_of
from modelserver_runtime.settings import Settings
from modelserver_runtime.timing import RequestTiming, current_request

type RawHeaders = list[tuple[bytes, bytes]]

# What needs no key: it is asked by machines that have none, and tells nothing about requests.
PUBLIC = frozenset({"/livez", "/readyz", "/ready", "/startupz", "/health"})
METRICS = "/metrics"
# Public if the settings say so, and open with any key otherwise.
DOCUMENT_ASSETS = "/docs/assets"
_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png")
DOCUMENTS = frozenset(
    {
        *("/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"),
        *(f"{DOCUMENT_ASSETS}/{name}" for name in _ASSETS),
    }
)
# The scope that the routes below a path need; every other route is for inference.
SCOPES = {
    "/admin": KeyScope.ADMIN,
    "/models": KeyScope.MODELS,
    "/v2/repository": KeyScope.MODELS,
    METRICS: KeyScope.METRICS,
}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FIRST_ERROR_STATUS = 400
_POLICY_VIOLATION = 1008


def public_paths(settings: Settings) -> frozenset[str]:
    """The one list."""
    metrics = {METRICS} if settings.access_metrics_public else set()
    return PUBLIC | metrics | (DOCUMENTS if settings.access_docs_public else frozenset())


def scope_of(method: str, path: str) -> KeyScope:
    """Who may only ask models may also see which there are."""
    for prefix, scope in SCOPES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            is_look = scope is KeyScope.MODELS and method in _SAFE_METHODS
            return KeyScope.INFERENCE if is_look else scope
    return KeyScope.INFERENCE


class Protection:
    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app = app
        self._guard = context.guard
        self._settings = context.settings
        self._public = public_paths(context.settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        elif scope["type"] != "http" or scope["path"] in self._public:
            await self._app(scope, receive, send)
        else:
            await self._protected(scope, receive, send)

    async def _protected(self, scope: Scope, receive: Receive, send: Send) -> None:
        passage = await self._guard.admit(self._arrival(scope))
        timing = current_request.get() or RequestTiming()
        if passage.caller.key is not None:
            timing.caller = passage.caller.id
        scope[CALLER] = passage.caller
        status = 0

        async def forward(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = _with_headers(message, passage)
            await send(message)

        try:
            app = response_of(passage.failure, scope["path"]) if passage.failure else self._app
            await app(scope, receive, forward)
        finally:
            # Nothing was sent to a client that has gone, and what was computed counts all the same.
            used = Usage(
                prompt_tokens=timing.prompt_tokens, completion_tokens=timing.generated_tokens
            )
            await self._guard.finish(passage, used, is_error=status >= _FIRST_ERROR_STATUS)

    def _arrival(self, scope: Scope) -> Arrival:
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _READ_HEADERS:
                headers.setdefault(name, []).append(value.decode("latin-1"))
        peer, port = scope.get("client") or ("", 0)
        forwarded = headers.get(b"x-forwarded-for", ())
        address = client_address(peer, forwarded, self._settings.trusted_proxies)
        # The access log and background jobs then know the client and not the proxy.
        scope["client"] = (address, port)
        method, path = scope["method"], scope["path"]
        return Arrival(
            what=f"{method} {path}",
            scope=scope_of(method, path),
            address=address,
            authorization=headers.get(b"authorization", ()),
            api_key=headers.get(b"x-api-key", ()),
            tokens_bytes=_announced_size(headers) if method == "POST" else None,
            is_copy=_is_copy(headers) and is_trusted_peer(peer, self._settings.trusted_proxies),
        )


# As `rest.boundary` reads it; here it is believed of trusted proxies only, because who could say it
# of himself would have no limits.
_COPY = b"x-modelserver-shadow"
_READ_HEADERS = frozenset(
    {b"authorization", b"x-api-key", b"x-forwarded-for", b"content-length", _COPY}
)


def _is_copy(headers: dict[bytes, list[str]]) -> bool:
    return headers.get(_COPY, [""])[0].lower() == "true"


def _announced_size(headers: dict[bytes, list[str]]) -> int:
    """0 for a body whose size nobody knows yet."""
    size = headers.get(b"content-length", ["0"])[0]
    return int(size) if size.isdecimal() else 0


def _with_headers(message: Message, passage: Passage) -> Message:
    if passage.admission is None:
        return message
    added = list(limit_headers(passage.admission.decision))
    # A copy: the message may be a constant of the application.
    return {**message, "headers": [*message.get("headers", ()), *added]}
