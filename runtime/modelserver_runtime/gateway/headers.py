"""Headers on their way through: what is one connection's only stays behind, who asked is added."""

import functools
import re
import secrets
from collections.abc import Iterator, Sequence

type RawHeaders = Sequence[tuple[bytes, bytes]]

SHADOW = b"x-modelserver-shadow"
REVISION = b"x-modelserver-revision"
REQUEST_ID = b"x-request-id"
_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED_PROTO = b"x-forwarded-proto"
# RFC 9110 7.6.1, and older ones that mean the same.
_OF_ONE_CONNECTION = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te"),
        *(b"proxy-authorization", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# `expect` is answered by the router; only the router says which requests are copies.
_NOT_PASSED_ON = _OF_ONE_CONNECTION | {
    *(b"expect", b"content-length", SHADOW, REQUEST_ID, _FORWARDED_FOR)
}
_NOT_PASSED_BACK = _OF_ONE_CONNECTION | {REVISION}
# Nobody may have the fields of the message itself dropped.
_NEVER_DROPPED = frozenset({b"content-length", b"content-type", b"host", b""})
# What a client may choose as its request's id; anything else could forge lines of a log.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id(headers: RawHeaders) -> bytes:
    wanted = _value(headers, REQUEST_ID)
    return wanted if _REQUEST_ID.fullmatch(wanted) else b"req-" + secrets.token_hex(12).encode()


def values_of(headers: RawHeaders, name: str | None) -> list[str]:
    """`name` in any case; the names in `headers` are in lower case."""
    wanted = _raw_name(name)
    return [value.decode("latin-1") for found, value in headers if found == wanted]


@functools.lru_cache(maxsize=256)
def _raw_name(name: str | None) -> bytes:
    return (name or "").lower().encode("latin-1", "replace")


def cookie_of(headers: RawHeaders, name: str) -> str:
    """The first cookie of that name, without its quotes; empty if there is none."""
    for value in values_of(headers, "cookie"):
        for pair in value.split(";"):
            found, equals, content = pair.strip().partition("=")
            if equals and found == name:
                return content.strip('"')
    return ""


def credential_of(headers: RawHeaders) -> str:
    """The API key, in the places where clients of this server send it."""
    authorization = _value(headers, b"authorization").decode("latin-1")
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return _value(headers, b"x-api-key").decode("latin-1").strip()


def requested(headers: RawHeaders, *, peer: str, identity: bytes) -> list[tuple[bytes, bytes]]:
    """What the revision is sent: the client's headers, and from whom they came."""
    dropped = _with_named_by_connection(_NOT_PASSED_ON, headers)
    passed = [(name, value) for name, value in headers if name not in dropped]
    hops = [value for name, value in headers if name == _FORWARDED_FOR]
    passed += [(REQUEST_ID, identity), (_FORWARDED_FOR, b", ".join([*hops, peer.encode()]))]
    if not _value(headers, _FORWARDED_PROTO):
        passed.append((_FORWARDED_PROTO, b"http"))
    return passed


def answered(
    headers: RawHeaders, *, revision: str, identity: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """What the client is sent: the revision's headers, and which revision it was."""
    dropped = _with_named_by_connection(_NOT_PASSED_BACK, headers)
    has_id = False
    for name, value in headers:
        if name not in dropped:
            has_id = has_id or name == REQUEST_ID
            yield name, value
    if not has_id:
        yield REQUEST_ID, identity
    yield REVISION, revision.encode("latin-1", "replace")


def set_cookie(name: str, revision: str, seconds: int) -> tuple[bytes, bytes]:
    text = f"{name}={revision}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax"
    return b"set-cookie", text.encode("latin-1", "replace")


def head_of(method: str, target: bytes, headers: RawHeaders) -> bytes:
    """The bytes of a request up to its body."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("latin-1"), target)]
    lines += [b"%b: %b\r\n" % pair for pair in headers]
    lines.append(b"\r\n")
    return b"".join(lines)


def content_length(headers: RawHeaders) -> int | None:
    """None where a body comes in chunks, or is none."""
    value = _value(headers, b"content-length")
    return int(value) if value.isdigit() else None


def is_event_stream(headers: RawHeaders) -> bool:
    return content_type(headers) == "text/event-stream"


def content_type(headers: RawHeaders) -> str:
    """Without its parameters, in lower case."""
    value = _value(headers, b"content-type").decode("latin-1")
    return value.partition(";")[0].strip().lower()


def _value(headers: RawHeaders, name: bytes) -> bytes:
    return next((value.strip() for found, value in headers if found == name), b"")


def _with_named_by_connection(dropped: frozenset[bytes], headers: RawHeaders) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return dropped
    named = {part.strip().lower() for value in values for part in value.split(b",")}
    return dropped | (named - _NEVER_DROPPED)
