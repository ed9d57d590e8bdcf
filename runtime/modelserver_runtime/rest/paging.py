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
    shown, has_more = page_of([item.id for item in items], after=after, limit=limit)
    wanted = set(shown)
    return [item for item in items if item.id in wanted], has_more


def page_of(ids: Sequence[str], *, after: str | None, limit: int) -> tuple[Sequence[str], bool]:
    if after is not None and after not in ids:
        raise InvalidRequest(f"after names {after}, which is not in the list", param="after")
    start = 0 if after is None else ids.index(after) + 1
    return ids[start : start + limit], len(ids) > start + limit
