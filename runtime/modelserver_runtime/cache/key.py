"""The identity of an answer: a digest of everything that could change it.

What is digested is first written in a form that is equal for equal values and never for others:
each value begins with its type and its length, so nothing can run into its neighbour. Dataclasses
are written with all their fields, so that a field which is new tomorrow is in the key tomorrow.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
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
    write = _WRITERS.get(type(value), _write_other)
    return write(value)


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _write_text(value: str) -> bytes:
    return _tagged(b"S", value.encode("utf-8", "surrogatepass"))


def _write_sequence(values: Sequence[Any]) -> bytes:
    """Plain whole numbers, which prompts are made of, are written at once: it is much faster."""
    if values and set(map(type, values)) == {int}:
        try:
            return _tagged(b"A", array("q", values).tobytes())
        except OverflowError:
            pass
    return _tagged(b"L", b"".join(map(canonical, values)))


def _write_mapping(value: Mapping[Any, Any]) -> bytes:
    pairs = (canonical(name) + canonical(entry) for name, entry in value.items())
    return _tagged(b"M", b"".join(sorted(pairs)))


def _write_set(value: AbstractSet[Any]) -> bytes:
    return _tagged(b"T", b"".join(sorted(map(canonical, value))))


def _write_other(value: Any) -> bytes:
    if isinstance(value, Enum):
        return _tagged(b"E", _write_text(type(value).__qualname__) + canonical(value.value))
    if is_dataclass(value) and not isinstance(value, type):
        name, written = _form_of(type(value))
        parts = [head + canonical(getattr(value, field)) for field, head in written]
        return _tagged(b"D", name + b"".join(parts))
    if isinstance(value, Mapping):
        return _write_mapping(value)
    if isinstance(value, AbstractSet):
        return _write_set(value)
    raise NotIdentifiable(f"{type(value).__name__} has no canonical form")


@cache
def _form_of(kind: type[Any]) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The name of a dataclass, and its fields with their names, as they are written."""
    written = tuple((field.name, _write_text(field.name)) for field in fields(kind))
    return _write_text(kind.__qualname__), written


_WRITERS: Mapping[type[Any], Callable[[Any], bytes]] = {
    type(None): lambda _: b"N0:",
    bool: lambda value: b"B1:%d" % value,
    int: lambda value: _tagged(b"I", b"%d" % value),
    float: lambda value: b"F8:" + struct.pack(">d", value),
    str: _write_text,
    bytes: lambda value: _tagged(b"Y", value),
    list: _write_sequence,
    tuple: _write_sequence,
    dict: _write_mapping,
    frozenset: _write_set,
    set: _write_set,
}
