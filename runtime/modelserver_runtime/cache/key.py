"""The identity of an answer: a digest of everything that could change it.

What is digested is first written in a form that is equal for equal values and never for others:
each value begins with its type and its length, so nothing can run into its neighbour. Dataclasses
are written with all their fields, so that a field which is new tomorrow is in the key tomorrow.
"""

import hashlib
import struct
from array import array
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

type Key = bytes

# Long enough that no two requests ever meet by accident, or can be made to.
_DIGEST_BYTES = 32


class NotIdentifiable(TypeError):
    """A value that has no canonical form, so that no key can stand for it."""


def key_of(*parts: Any) -> Key:
    """Raises NotIdentifiable if one of the parts holds something else than plain values."""
    return hashlib.blake2b(canonical(parts), digest_size=_DIGEST_BYTES).digest()


def canonical(value: Any) -> bytes:
    """Equal for values that are equal and of the same types: 1, 1.0 and True are three values.

    Lists and tuples are the same, as are mappings in any order.
    """
    match value:
        case None:
            tag, content = b"N", b""
        case Enum():
            tag, content = b"E", canonical(type(value).__qualname__) + canonical(value.value)
        case int():
            tag, content = b"B" if isinstance(value, bool) else b"I", b"%d" % value
        case float():
            tag, content = b"F", struct.pack(">d", value)
        case str():
            tag, content = b"S", value.encode("utf-8", "surrogatepass")
        case bytes() | bytearray() | memoryview():
            tag, content = b"Y", bytes(value)
        case list() | tuple():
            tag, content = _sequence(value)
        case _:
            tag, content = _unordered(value)
    return b"%b%d:%b" % (tag, len(content), content)


def _unordered(value: Any) -> tuple[bytes, bytes]:
    if isinstance(value, Mapping):
        pairs = (canonical(name) + canonical(entry) for name, entry in value.items())
        return b"M", b"".join(sorted(pairs))
    if isinstance(value, AbstractSet):
        return b"T", b"".join(sorted(map(canonical, value)))
    if is_dataclass(value) and not isinstance(value, type):
        parts = (canonical(name) + canonical(getattr(value, name)) for name in _names(type(value)))
        return b"D", canonical(type(value).__qualname__) + b"".join(parts)
    raise NotIdentifiable(f"{type(value).__name__} has no canonical form")


def _sequence(values: Sequence[Any]) -> tuple[bytes, bytes]:
    """Plain whole numbers, which prompts are made of, are written at once: it is much faster."""
    if values and set(map(type, values)) == {int}:
        try:
            return b"A", array("q", values).tobytes()
        except OverflowError:
            pass
    return b"L", b"".join(map(canonical, values))


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
