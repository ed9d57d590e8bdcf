"""The gateway's pods, which stand in for servers that sleep, and the ports they tell them by."""

from collections.abc import Callable, Iterator

from modelserver_operator.cluster.client import ApiClient, ObjectName
from modelserver_operator.cluster.informer import Informer
from modelserver_operator.cluster.store import Store, trimmed_pod
from modelserver_operator.plan.looks import is_going, is_true
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.holder_slice import GatewayPod
from modelserver_operator.resources.kinds import POD
from modelserver_operator.resources.labels import GATEWAY_NAME, NAME

SELECTOR = f"{NAME}={GATEWAY_NAME}"


class Gateways:
    """`concerned` is called when those that are ready may be others than before."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        concerned: Callable[[], None],
        restarted: Callable[[str, str], None],
    ) -> None:
        self._where = ObjectName(namespace, GATEWAY_NAME)
        self._store = Store(owner=lambda _pod: self._where, trim=trimmed_pod)
        self._concerned = concerned
        self._restarted = restarted
        self._ready: tuple[GatewayPod, ...] = ()
        self.informer = Informer(
            client, self._store, self, kind=POD, namespace=namespace, labels=SELECTOR
        )

    @property
    def ready(self) -> tuple[GatewayPod, ...]:
        return self._ready

    def changed(self, servers: set[ObjectName]) -> None:
        ready = tuple(sorted(_ready_pods(self._store.of_server(self._where)))) if servers else ()
        if servers and ready != self._ready:
            self._ready = ready
            self._concerned()

    def restarted(self, kind: str, cause: str) -> None:
        self._restarted(kind, cause)


def _ready_pods(pods: list[Manifest]) -> Iterator[GatewayPod]:
    for pod in pods:
        status, metadata = pod.get("status", {}), pod["metadata"]
        if status.get("podIP") and is_true(pod, "Ready") and not is_going(pod):
            yield GatewayPod(
                address=str(status["podIP"]),
                name=metadata["name"],
                namespace=metadata["namespace"],
                node=pod["spec"].get("nodeName", ""),
            )


class HolderPorts:
    """Which server has which port of the gateway: also while its status is still being written."""

    def __init__(self) -> None:
        self._given: dict[ObjectName, int] = {}

    def note(self, server: ObjectName, port: int | None) -> None:
        if port is None:
            self._given.pop(server, None)
        else:
            self._given[server] = port

    def of_others(self, server: ObjectName) -> frozenset[int]:
        return frozenset(port for one, port in self._given.items() if one != server)

    @property
    def holders(self) -> set[ObjectName]:
        return set(self._given)
