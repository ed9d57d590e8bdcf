"""Reads how long a safetensors file must be, from the header of the file.

8 bytes, little endian: length of header | header: JSON, name → {dtype, shape, data_offsets} | data
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")
# The format allows no longer header.
_LONGEST_HEADER_BYTES = 100_000_000


class UnreadableHeader(Exception):
    """Says what is wrong with the file."""


# Bits of one element; a type that is not listed is counted as it lies in the file.
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}


def expected_size(path: Path) -> int:
    """Bytes that the whole file has if it is intact."""
    header = _header(path)
    return _LENGTH.size + len(header) + _data_size(header)


def tensor_bytes(path: Path, *, element_bits: Mapping[str, int]) -> int:
    """Memory that the file's tensors take when those of a type have other bits than in the file."""
    total = 0
    for name, entry in json.loads(_header(path)).items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        kind = entry["dtype"]
        stored = _BITS.get(kind)
        total += (end - start) * element_bits.get(kind, stored) // stored if stored else end - start
    return total


def _header(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(_LENGTH.size)
        if len(start) < _LENGTH.size:
            raise UnreadableHeader(f"it has {size} bytes, less than a header")
        (length,) = _LENGTH.unpack(start)
        if length > min(_LONGEST_HEADER_BYTES, size - _LENGTH.size):
            raise UnreadableHeader(
                f"its header should have {length} bytes, and the file has {size}"
            )
        return stream.read(length)


def _data_size(header: bytes) -> int:
    try:
        entries: dict[str, Any] = json.loads(header)
        return max(
            (
                int(entry["data_offsets"][1])
                for name, entry in entries.items()
                if name != "__metadata__"
            ),
            default=0,
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnreadableHeader("its header is not what the format prescribes") from error
