"""Reads how long a safetensors file must be, from the header of the file.

8 bytes, little endian: length of header | header: JSON, name → {dtype, shape, data_offsets} | data
"""

import json
import struct
from pathlib import Path
from typing import Any

_LENGTH = struct.Struct("<Q")
# The format allows no longer header.
_LONGEST_HEADER_BYTES = 100_000_000


class UnreadableHeader(Exception):
    """Says what is wrong with the file."""


def expected_size(path: Path) -> int:
    """Bytes that the whole file has if it is intact."""
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
        header = stream.read(length)
    return _LENGTH.size + int(length) + _data_size(header)


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
