"""Values out of objects of the API, read so that what is not as expected is as if it were not said.

A number that is no number, or a part that is no object, is absent; nothing raises.
"""

from collections.abc import Iterator, Mapping
from typing import Any

type Json = Mapping[str, Any]


def part(item: Json, name: str) -> Json:
    found = item.get(name)
    return found if isinstance(found, Mapping) else {}


def parts(item: Json, name: str) -> Iterator[Json]:
    """The objects of a list."""
    found = item.get(name)
    if isinstance(found, list):
        yield from (one for one in found if isinstance(one, Mapping))


def text(item: Json, name: str) -> str:
    found = item.get(name)
    return found if isinstance(found, str) else ""


def whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any, most: float) -> float | None:
    """Above 0, and at most `most`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return min(float(value), most) if is_number and value > 0 else None
