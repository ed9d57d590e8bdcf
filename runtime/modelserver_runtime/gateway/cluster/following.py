"""The cluster, followed: two watches, and the directory that is made of what they say."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from modelserver_runtime.gateway.cluster.client import ApiClient
from modelserver_runtime.gateway.cluster.directory import (
    Directory,
    HoldBounds,
    ServedModel,
    ServerKey,
)
from modelserver_runtime.gateway.cluster.reading import (
    SERVER_LABEL,
    key_of,
    read_server,
    server_of_slice,
)
from modelserver_runtime.gateway.cluster.watching import Item, Watch

_SERVERS = "/apis/modelserver.dev/v1alpha1/modelservers"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
_DELETED = "DELETED"
# One change of a cluster comes as a handful of events; they make one directory.
_TOGETHER_SECONDS = 0.02

type Listener = Callable[[Directory], None]


class Cluster:
    """`directory` is replaced as a whole; whoever is in `listeners` is then told."""

    def __init__(self, client: ApiClient, bounds: HoldBounds) -> None:
        self.directory = Directory()
        self.listeners: list[Listener] = []
        self._servers = _Servers(self._note)
        self._slices = _Slices(self._note)
        self._bounds = bounds
        self._models: dict[ServerKey, ServedModel] = {}
        self._changed: set[ServerKey] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_listed = False
        self._watches = (
            Watch(client, _SERVERS, self._servers),
            Watch(client, _SLICES, self._slices, selector=SERVER_LABEL),
        )

    @property
    def is_known(self) -> bool:
        """What the first lists said is in the directory only a moment later."""
        is_listed = all(watch.is_known for watch in self._watches)
        return is_listed and (self._has_listed or self._timer is None)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(watch.problem for watch in self._watches if watch.problem)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as group:
            for watch in self._watches:
                group.create_task(watch.run())

    def _note(self, key: ServerKey) -> None:
        self._changed.add(key)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TOGETHER_SECONDS, self._renew)

    def _renew(self) -> None:
        self._timer = None
        self._has_listed = all(watch.is_known for watch in self._watches)
        for key in self._changed:
            item = self._servers.items.get(key)
            if item is None:
                self._models.pop(key, None)
            else:
                slices = self._slices.of_server.get(key, {}).values()
                self._models[key] = read_server(item, slices, self._bounds)
        self._changed.clear()
        self.directory = Directory.of(self._models.values())
        for listener in tuple(self.listeners):
            listener(self.directory)


class _Servers:
    def __init__(self, note: Callable[[ServerKey], None]) -> None:
        self.items: dict[ServerKey, Item] = {}
        self._note = note

    def replace(self, items: Sequence[Item]) -> None:
        before = set(self.items)
        self.items = {key_of(item): item for item in items}
        for key in before | set(self.items):
            self._note(key)

    def apply(self, kind: str, item: Item) -> None:
        key = key_of(item)
        if kind == _DELETED:
            self.items.pop(key, None)
        else:
            self.items[key] = item
        self._note(key)


class _Slices:
    def __init__(self, note: Callable[[ServerKey], None]) -> None:
        self.of_server: defaultdict[ServerKey, dict[str, Item]] = defaultdict(dict)
        self._note = note

    def replace(self, items: Sequence[Item]) -> None:
        before = set(self.of_server)
        self.of_server.clear()
        for item in items:
            self._put(item)
        for key in before | set(self.of_server):
            self._note(key)

    def apply(self, kind: str, item: Item) -> None:
        key = server_of_slice(item)
        if key is None:
            return
        if kind == _DELETED:
            self.of_server[key].pop(item["metadata"]["name"], None)
        else:
            self._put(item)
        self._note(key)

    def _put(self, item: Item) -> None:
        key = server_of_slice(item)
        if key is not None:
            self.of_server[key][item["metadata"]["name"]] = item
