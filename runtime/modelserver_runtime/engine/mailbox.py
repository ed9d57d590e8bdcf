"""What has happened to one request and was not read yet: written and read on the event loop."""

import asyncio


class Mailbox[Item]:
    """An asyncio.Queue for one reader, who takes all that waits at once."""

    __slots__ = ("_items", "_reader")

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._reader: asyncio.Future[None] | None = None

    def put(self, item: Item) -> None:
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def take(self) -> list[Item]:
        """At least one item, in the order in which they came."""
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        taken, self._items = self._items, []
        return taken
