"""Tensors as the protocol writes them: in JSON, or as bytes behind it."""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelserver_runtime.errors import InvalidRequest

BYTES = "BYTES"
# Little-endian, as the protocol demands of bytes.
NUMBERS: Mapping[str, str] = {
    "BOOL": "?",
    **{
        f"{sign}INT{bits}": f"<{kind}{bits // 8}"
        for sign, kind in (("", "i"), ("U", "u"))
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
DATATYPES = (*NUMBERS, BYTES)
INTEGERS = frozenset(name for name in NUMBERS if "INT" in name)
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """`values` are flat, in the order of rows: an array, or texts and bytes for BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any] | np.ndarray[Any, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def tensor_of_json(
    name: str, datatype: str, shape: Sequence[int], data: Sequence[Any], *, place: str
) -> Tensor:
    """`data` may be nested like the shape, or flat. `place` is where it stands in the request."""
    flat = list(_flat(data))
    _require_size(len(flat), shape, place)
    if datatype == BYTES:
        values: Any = [_text(value, place) for value in flat]
    else:
        values = _numbers(flat, datatype, place)
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)


def tensor_of_bytes(
    name: str, datatype: str, shape: Sequence[int], content: bytes, *, place: str
) -> Tensor:
    if datatype == BYTES:
        values: Any = list(_split(content, place))
        _require_size(len(values), shape, place)
    else:
        values = _from_buffer(content, datatype, shape, place)
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)


def as_json(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.values, np.ndarray):
        flat: list[Any] = tensor.values.tolist()
        return flat
    return [_decoded(value) for value in tensor.values]


def as_bytes(tensor: Tensor) -> bytes:
    if isinstance(tensor.values, np.ndarray):
        return tensor.values.tobytes()
    parts = [value.encode() if isinstance(value, str) else value for value in tensor.values]
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def array(name: str, datatype: str, shape: Sequence[int], values: Any) -> Tensor:
    """A tensor of numbers for an answer."""
    numbers = np.asarray(values, dtype=NUMBERS[datatype]).reshape(-1)
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=numbers)


def texts(name: str, values: Sequence[str], shape: Sequence[int] | None = None) -> Tensor:
    """A tensor of texts for an answer."""
    return Tensor(name=name, datatype=BYTES, shape=tuple(shape or (len(values),)), values=values)


def _flat(data: Iterable[Any]) -> Iterator[Any]:
    """Without recursion: a request may nest lists as deeply as it likes."""
    waiting = [iter(data)]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, list):
                waiting.append(iter(value))
                break
            yield value
        else:
            waiting.pop()


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(
            f"{place}.data has {value!r}, and its datatype is BYTES; send texts", param=place
        )
    return value


def _numbers(flat: Sequence[Any], datatype: str, place: str) -> np.ndarray[Any, Any]:
    kinds = (bool,) if datatype == "BOOL" else (int,) if datatype in INTEGERS else (int, float)
    for value in flat:
        if not isinstance(value, kinds) or (isinstance(value, bool) and datatype != "BOOL"):
            raise InvalidRequest(f"{place}.data has {value!r}, which is no {datatype}", param=place)
    try:
        return np.array(flat, dtype=NUMBERS[datatype])
    except OverflowError as error:
        raise InvalidRequest(
            f"{place}.data has numbers that {datatype} cannot hold", param=place
        ) from error


def _require_size(found: int, shape: Sequence[int], place: str) -> None:
    wanted = math.prod(shape)
    if found != wanted:
        raise InvalidRequest(
            f"{place} has {found} values, and its shape {list(shape)} needs {wanted}", param=place
        )


def _from_buffer(
    content: bytes, datatype: str, shape: Sequence[int], place: str
) -> np.ndarray[Any, Any]:
    dtype = np.dtype(NUMBERS[datatype])
    wanted = math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        raise InvalidRequest(
            f"{place} has {len(content)} bytes, and its shape {list(shape)} of {datatype} needs "
            f"{wanted}",
            param=place,
        )
    return np.frombuffer(content, dtype=dtype)


def _split(content: bytes, place: str) -> Iterator[bytes]:
    """Each element has its length before it, in four bytes."""
    position = 0
    while position < len(content):
        begin = position + _LENGTH.size
        if begin > len(content):
            raise _cut_off(place)
        [length] = _LENGTH.unpack_from(content, position)
        position = begin + length
        if position > len(content):
            raise _cut_off(place)
        yield content[begin:position]


def _cut_off(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{place} ends within an element; each needs its length in four bytes, and then its bytes",
        param=place,
    )


def _decoded(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
