"""The gateway's view of a real API server: its models, its rights, and what it does to wake one."""

import asyncio
import contextlib
import inspect
import time

import pytest

from modelserver_runtime.errors import ApiNotFound, ApiRefused
from modelserver_runtime.gateway.cluster import Address, HoldBounds, ServedModel, ServerKey
from modelserver_runtime.gateway.cluster.client import Account, ApiClient
from modelserver_runtime.gateway.cluster.colleagues import Colleagues
from modelserver_runtime.gateway.cluster.following import Cluster
from modelserver_runtime.gateway.cluster.waking import Waker
from support.fault_proxy import FaultProxy

RBAC = "rbac.authorization.k8s.io"
WATCHES = [
    {
        "apiGroups": ["modelserver.dev"],
        "resources": ["modelservers"],
        "verbs": ["list", "watch"],
    },
    {
        "apiGroups": ["discovery.k8s.io"],
        "resources": ["endpointslices"],
        "verbs": ["list", "watch"],
    },
]
WAKES = {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]}
PATIENCE_SECONDS = 120


class Rights:
    """An account of the gateway's own, and what it may do."""

    def __init__(self, kube, namespace, folder):
        self.kube, self.namespace = kube, namespace
        self.role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "rules": []}
        self.role["metadata"] = {"name": f"gateway-{namespace}"}
        self.token_file = folder / "token"
        metadata = {"name": "gateway", "namespace": namespace}
        kube.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        self.grant()
        binding = {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": self.role["metadata"],
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"gateway-{namespace}"},
            "subjects": [{"kind": "ServiceAccount"} | metadata],
        }
        kube.apply(binding)
        self.renew_token()

    def grant(self, *rules):
        self.kube.apply(self.role | {"rules": list(rules)})

    def renew_token(self):
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/gateway/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = self.kube.ask("POST", path, body)
        assert answer.is_success, answer.text
        self.token_file.write_text(answer.json()["status"]["token"])

    def client(self, url, ca_file):
        return ApiClient(Account(url=url, token_file=self.token_file, ca_file=ca_file))


@pytest.fixture
def rights(kube, namespace, tmp_path):
    made = Rights(kube, namespace, tmp_path)
    yield made
    for kind in ("clusterroles", "clusterrolebindings"):
        kube.delete(f"/apis/{RBAC}/v1/{kind}/gateway-{namespace}")


@pytest.fixture
def proxy(cluster):
    with FaultProxy(cluster.url, ca_file=cluster.ca_file) as made:
        yield made


@contextlib.asynccontextmanager
async def following(client):
    made = Cluster(client, HoldBounds())
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)  # connections close one step of the loop later


async def until(look):
    """`look` may be a coroutine function, too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (seen := (await look() if inspect.iscoroutinefunction(look) else look())):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS} s; last: {seen!r}"
        await asyncio.sleep(0.05)
    return seen


def make_server(kube, namespace, name="chat", **model):
    kube.create(
        {
            "apiVersion": "modelserver.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"model": {"uri": "hf://org/model"} | model},
        }
    )


def make_slice(
    kube, namespace, *ready, server="chat", managed_by="endpointslice-controller.k8s.io"
):
    kube.apply(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {
                "name": f"{server}-{managed_by[:4]}",
                "namespace": namespace,
                "labels": {
                    "modelserver.dev/server": server,
                    "kubernetes.io/service-name": server,
                    "endpointslice.kubernetes.io/managed-by": managed_by,
                },
            },
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in ready],
        }
    )


async def test_models_and_their_pods_are_followed(kube, namespace, cluster, rights):
    rights.grant(*WATCHES)
    make_server(kube, namespace, servedName=f"{namespace}-gpt", aliases=["gpt-alias"])
    key = ServerKey(namespace, "chat")
    async with following(rights.client(cluster.url, cluster.ca_file)) as followed:
        model = await until(lambda: followed.directory.servers.get(key))
        assert model.names == (f"{namespace}-gpt", "gpt-alias")
        assert model.ready == ()
        make_slice(kube, namespace, "10.1.0.1", "10.1.0.2")
        make_slice(kube, namespace, "10.9.9.9", managed_by="modelserver-operator")
        await until(lambda: followed.directory.servers[key].ready)
        ready = followed.directory.servers[key].ready
        assert ready == (Address("10.1.0.1", 8080), Address("10.1.0.2", 8080))
        make_slice(kube, namespace, "10.1.0.2")
        await until(lambda: followed.directory.servers[key].ready == (Address("10.1.0.2", 8080),))
        kube.delete(f"/apis/modelserver.dev/v1alpha1/namespaces/{namespace}/modelservers/chat")
        await until(lambda: key not in followed.directory.servers)


async def test_without_rights_it_says_so_and_goes_on_when_it_has_them(
    kube, namespace, cluster, rights
):
    make_server(kube, namespace)
    async with following(rights.client(cluster.url, cluster.ca_file)) as followed:
        problems = await until(lambda: len(followed.problems) == 2 and followed.problems)
        assert all("forbidden" in one and "ServiceAccount" in one for one in problems)
        assert not followed.is_known
        rights.grant(*WATCHES)
        await until(lambda: followed.is_known and not followed.problems)
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "chat")))


async def test_what_a_watch_has_missed_is_learnt_from_a_new_list(kube, namespace, proxy, rights):
    rights.grant(*WATCHES)
    make_server(kube, namespace, "old")
    async with following(rights.client(proxy.url, None)) as followed:
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "old")))
        with proxy.blackout():  # and then every version is too old: 410
            make_server(kube, namespace, "new")
            kube.delete(f"/apis/modelserver.dev/v1alpha1/namespaces/{namespace}/modelservers/old")
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "new")))
        assert ServerKey(namespace, "old") not in followed.directory.servers
        make_server(kube, namespace, "newer")
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "newer")))


async def test_a_token_that_was_renewed_is_used(kube, namespace, proxy, rights):
    rights.grant(*WATCHES)
    make_server(kube, namespace, "old")
    async with following(rights.client(proxy.url, None)) as followed:
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "old")))
        proxy.revoke(rights.token_file.read_text())
        rights.renew_token()
        proxy.cut_watches()
        make_server(kube, namespace, "new")
        await until(lambda: followed.directory.servers.get(ServerKey(namespace, "new")))


async def test_gateways_are_counted_by_the_endpoints_of_their_service(
    kube, namespace, cluster, rights
):
    rights.grant(*WATCHES)
    gateways = Colleagues(rights.client(cluster.url, cluster.ca_file), f"{namespace}/gateway")
    task = asyncio.create_task(gateways.run())
    try:
        assert gateways.count() == 1
        make_slice(kube, namespace, "10.1.0.1", "10.1.0.2", "10.1.0.3", server="gateway")
        make_slice(kube, namespace, "10.1.0.4", server="another")
        await until(lambda: gateways.count() == 3)
        make_slice(kube, namespace, "10.1.0.1", "10.1.0.2", server="gateway")
        await until(lambda: gateways.count() == 2)
        kube.delete(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/gateway-endp")
        await until(lambda: gateways.count() == 1)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)  # connections close one step of the loop later


def make_deployment(kube, namespace, replicas):
    labels = {"app": "chat"}
    container = {"name": "server", "image": "registry.example/runtime:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    kube.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "chat-abc", "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": template,
            },
        }
    )


def replicas_of(kube, namespace):
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/chat-abc"
    return kube.get(path)["spec"]["replicas"]


async def test_a_model_is_woken_once_and_one_that_is_awake_is_left_alone(
    kube, namespace, cluster, rights
):
    waker = Waker(rights.client(cluster.url, cluster.ca_file))
    model = ServedModel(key=ServerKey(namespace, "chat"), names=("chat",), revision="abc")
    make_deployment(kube, namespace, 0)
    with pytest.raises(ApiRefused, match="forbidden"):
        await waker.wake(model)
    rights.grant(WAKES)

    async def may_wake():
        with contextlib.suppress(ApiRefused):
            return await waker.wake(model) in {True, False}
        return False

    await until(may_wake)
    assert replicas_of(kube, namespace) == 1
    make_deployment(kube, namespace, 0)
    woken = await asyncio.gather(*(waker.wake(model) for _ in range(5)))
    assert sum(woken) == 1
    assert replicas_of(kube, namespace) == 1
    make_deployment(kube, namespace, 3)
    assert await waker.wake(model) is False
    assert replicas_of(kube, namespace) == 3


async def test_what_is_not_there_cannot_be_woken(namespace, cluster, rights):
    waker = Waker(rights.client(cluster.url, cluster.ca_file))
    rights.grant(WAKES)
    model = ServedModel(key=ServerKey(namespace, "gone"), names=("gone",), revision="abc")

    async def failure():
        try:
            await waker.wake(model)
        except ApiNotFound as error:
            return error
        except ApiRefused:  # not granted yet
            return None
        return None

    await until(failure)
