"""The identity of an answer: a digest of everything that could change it.

What is digested is first written in a form that is equal for equal values and never for others:
each value begins with its type and says where it ends, so nothing can run into its neighbour.
Dataclasses are written with all their fields, so that a field which is new tomorrow is in the key
tomorrow.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
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
    return _WRITERS.get(type(value), _write_other)(value)


def _write_text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"S%d:%b" % (len(content), content)


def _write_bytes(value: bytes) -> bytes:
    return b"Y%d:%b" % (len(value), value)


def _write_sequence(values: Sequence[Any]) -> bytes:
    """Plain whole numbers, which prompts are made of, are written at once: it is much faster."""
    if not values:
        return b"L0:"
    if set(map(type, values)) == {int}:
        try:
            return b"A%d:%b" % (len(values), array("q", values).tobytes())
        except OverflowError:
            pass
    return b"L%d:%b" % (len(values), b"".join(map(canonical, values)))


def _write_mapping(value: Mapping[Any, Any]) -> bytes:
    pairs = (canonical(name) + canonical(entry) for name, entry in value.items())
    return b"M%d:%b" % (len(value), b"".join(sorted(pairs)))


def _write_set(value: AbstractSet[Any]) -> bytes:
    return b"T%d:%b" % (len(value), b"".join(sorted(map(canonical, value))))


def _write_other(value: Any) -> bytes:
    if isinstance(value, Enum):
        return b"E%b%b" % (_write_text(type(value).__qualname__), canonical(value.value))
    if is_dataclass(value) and not isinstance(value, type):
        head, values = _form_of(type(value))
        return head + b"".join(map(canonical, values(value)))
    if isinstance(value, Mapping):
        return _write_mapping(value)
    if isinstance(value, AbstractSet):
        return _write_set(value)
    raise NotIdentifiable(f"{type(value).__name__} has no canonical form")


@cache
def _form_of(kind: type[Any]) -> tuple[bytes, Callable[[Any], Iterable[Any]]]:
    """How a dataclass begins, with its name and those of its fields; what gives their values."""
    names = [field.name for field in fields(kind)]
    head = b"D%b%b" % (_write_text(kind.__qualname__), _write_sequence(names))
    if len(names) > 1:
        return head, attrgetter(*names)
    return head, lambda value: [getattr(value, name) for name in names]


_EIGHT_BYTES = struct.Struct(">d")

_WRITERS: Mapping[type[Any], Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"B%d" % value,
    int: lambda value: b"I%d;" % value,
    float: lambda value: b"F" + _EIGHT_BYTES.pack(value),
    str: _write_text,
    bytes: _write_bytes,
    list: _write_sequence,
    tuple: _write_sequence,
    dict: _write_mapping,
    frozenset: _write_set,
    set: _write_set,
}
