"""What a client asks, and how it is written to a revision."""

from dataclasses import dataclass
from typing import Self

from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.body import Scope
from modelserver_runtime.gateway.headers import RawHeaders

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# RFC 9110 8.6: these say their length also when it is 0.
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`target` is the path as it was written, with its query; `peer` the address it came from."""

    method: str
    path: str
    target: bytes
    headers: RawHeaders
    peer: str
    identity: bytes
    added: RawHeaders = ()  # what the router itself says

    @classmethod
    def of(cls, scope: Scope) -> Self:
        query = scope["query_string"]
        return cls(
            method=scope["method"],
            path=scope["path"],
            target=scope["raw_path"] + (b"?" + query if query else b""),
            headers=scope["headers"],
            peer=(scope.get("client") or ("",))[0],
            identity=headers.request_id(scope["headers"]),
        )

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be done twice: by its method, or because the client says so."""
        return self.method in _SAFE_METHODS or bool(
            headers.values_of(self.headers, "idempotency-key")
        )

    @property
    def is_chunked(self) -> bool:
        """Whether its body comes without its length, if it does not come at once."""
        return headers.content_length(self.headers) is None

    def content(self, first: bytes, *, is_whole: bool) -> bytes:
        """Its head, and the first part of its body."""
        length = headers.content_length(self.headers)
        if length is None and is_whole and (first or self.method in _METHODS_WITH_BODY):
            length = len(first)
        passed = headers.requested(self.headers, peer=self.peer, identity=self.identity)
        passed += self.added
        if length is not None:
            passed.append((b"content-length", b"%d" % length))
        elif not is_whole:
            passed.append((b"transfer-encoding", b"chunked"))
            first = chunk_of(first)
        return headers.head_of(self.method, self.target, passed) + first


def chunk_of(content: bytes) -> bytes:
    """An empty chunk would be the last one."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
