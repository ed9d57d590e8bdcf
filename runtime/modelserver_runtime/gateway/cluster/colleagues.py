"""How many gateways there are: the ready endpoints of their Service divide limits among them."""

from collections.abc import Sequence

from modelserver_runtime.gateway.cluster.client import ApiClient
from modelserver_runtime.gateway.cluster.reading import SERVICE_LABEL, ready_addresses
from modelserver_runtime.gateway.cluster.watching import Item, Watch

_DELETED = "DELETED"


class Colleagues:
    """`service` is NAMESPACE/NAME."""

    def __init__(self, client: ApiClient, service: str) -> None:
        namespace, _, name = service.partition("/")
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._slices: dict[str, Item] = {}
        self._count = 1
        self._watch = Watch(client, path, self, selector=f"{SERVICE_LABEL}={name}")

    def count(self) -> int:
        """At least one, which is this."""
        return self._count

    async def run(self) -> None:
        """Never returns."""
        await self._watch.run()

    def replace(self, items: Sequence[Item]) -> None:
        self._slices = {item["metadata"]["name"]: item for item in items}
        self._add_up()

    def apply(self, kind: str, item: Item) -> None:
        name = item["metadata"]["name"]
        if kind == _DELETED:
            self._slices.pop(name, None)
        else:
            self._slices[name] = item
        self._add_up()

    def _add_up(self) -> None:
        """With two families of addresses each pod has one in each."""
        by_family: dict[str, int] = {}
        for item in self._slices.values():
            family = str(item.get("addressType"))
            by_family[family] = by_family.get(family, 0) + len(ready_addresses(item))
        self._count = max(by_family.values(), default=0) or 1
