"""Lists that are too long for one answer."""

from collections.abc import Sequence
from typing import Protocol

from modelserver_runtime.errors import InvalidRequest


class Identified(Protocol):
    @property
    def id(self) -> str: ...


def page[Item: Identified](
    items: Sequence[Item], *, after: str | None, limit: int
) -> tuple[Sequence[Item], bool]:
    """At most `limit` of the items after the one named `after`, and whether there are more."""
    ids = [item.id for item in items]
    if after is not None and after not in ids:
        raise InvalidRequest(f"after names {after}, which is not in the list", param="after")
    start = 0 if after is None else ids.index(after) + 1
    return items[start : start + limit], len(items) > start + limit
