"""What browsers are told with every answer, and which of their pages may ask at all."""

from collections.abc import Iterable

from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.headers import RawHeaders
from modelserver_runtime.settings import Settings

type Pairs = list[tuple[bytes, bytes]]

_ANY = "*"
_PREFLIGHT_SECONDS = b"600"
_METHODS = b"GET, POST, PUT, DELETE, OPTIONS"
_EXPOSED = b", ".join(
    (
        *(b"x-request-id", b"x-model-state", b"x-modelserver-revision", b"retry-after"),
        *(b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests"),
        b"x-ratelimit-reset-requests",
    )
)
# What helmet sets, but for what only means something to pages that this server does not have.
_STATIC: Pairs = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"origin-agent-cluster", b"?1"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-dns-prefetch-control", b"off"),
    (b"x-download-options", b"noopen"),
    (b"x-frame-options", b"DENY"),
    (b"x-permitted-cross-domain-policies", b"none"),
    (b"x-xss-protection", b"0"),
]


class Boundary:
    def __init__(self, settings: Settings) -> None:
        self._origins = frozenset(settings.cors_origins)
        self._with_credentials = settings.cors_credentials
        self._static = list(_STATIC)
        if settings.hsts_seconds:
            value = f"max-age={settings.hsts_seconds}; includeSubDomains".encode()
            self._static.append((b"strict-transport-security", value))

    def added(self, answered: Iterable[tuple[bytes, bytes]], asked: RawHeaders) -> Pairs:
        """The answer's headers with ours; a pod's own are not said twice."""
        pairs = list(answered)
        present = {name for name, _ in pairs}
        pairs += [pair for pair in self._static if pair[0] not in present]
        if self._origins and not any(name.startswith(b"access-control-") for name in present):
            pairs += self._cors(asked)
        return pairs

    def is_preflight(self, method: str, asked: RawHeaders) -> bool:
        return method == "OPTIONS" and bool(
            headers.values_of(asked, "access-control-request-method")
        )

    def preflight(self, asked: RawHeaders) -> Pairs:
        """Without what permits it, if the origin is not one of ours."""
        cors = self._cors(asked)
        if not cors:
            return []
        wanted = headers.values_of(asked, "access-control-request-headers")
        cors.append((b"access-control-allow-methods", _METHODS))
        cors.append((b"access-control-max-age", _PREFLIGHT_SECONDS))
        cors += [(b"access-control-allow-headers", one.encode("latin-1")) for one in wanted[:1]]
        return cors

    def _cors(self, asked: RawHeaders) -> Pairs:
        origin = next(iter(headers.values_of(asked, "origin")), "")
        if not origin or not ({origin, _ANY} & self._origins):
            return []
        allowed = _ANY if origin not in self._origins else origin
        pairs = [
            (b"access-control-allow-origin", allowed.encode("latin-1")),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin"),
        ]
        if self._with_credentials:
            pairs.append((b"access-control-allow-credentials", b"true"))
        return pairs
