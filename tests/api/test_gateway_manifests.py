"""What `manifests/gateway` installs: it may wake a model, and nothing else in the world."""

import asyncio

import pytest

from modelserver_operator.resources.labels import revision_selector, router_selector
from modelserver_runtime.gateway.cluster import ServedModel, ServerKey
from modelserver_runtime.gateway.cluster.client import Account, ApiClient
from modelserver_runtime.gateway.cluster.waking import Waker
from support.kube import Kube, path_of
from support.manifests import BASE, Permission, of_kind, permissions, render
from support.network_policy import Address, Flow, Pod, passes
from support.waiting import wait_until

GATEWAY = BASE.parent / "gateway"
ACCOUNT = "modelserver-gateway"
HOME = "modelserver-system"
INSTALLED = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)
PATIENCE_SECONDS = 120
LEAST_OF_THE_CLUSTER = 1_000_000_000  # users cannot give more
OF_REVISION = revision_selector("chat", "abc")
OF_ROUTER = router_selector("chat")
SCALES = "application/merge-patch+json"


@pytest.fixture(scope="module")
def rendered(cluster):
    return render(cluster.kubectl, GATEWAY)


@pytest.fixture(scope="module")
def token(kube, rendered, installation):
    """Of the gateway's own account, installed beside the operator's."""
    assert installation.namespace == HOME
    made = of_kind(rendered, *INSTALLED)
    assert {one["kind"] for one in made} == set(INSTALLED)
    for manifest in made:
        kube.apply(manifest)
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts/{ACCOUNT}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    yield kube.ask("POST", path, body).json()["status"]["token"]
    for manifest in reversed(made):
        kube.delete(path_of(manifest))


@pytest.fixture(scope="module")
def gateway(cluster, token):
    made = Kube(cluster.url, token=token, ca_file=str(cluster.ca_file))
    with made.http:
        yield made


@pytest.fixture
def wakes(kube, gateway, namespace):
    """Once the policy is in force: API servers learn of one within a second or so."""
    make_deployment(kube, namespace, "first", 3, OF_REVISION)
    wait_until(
        lambda: "from 3 to 2" in set_scale(gateway, namespace, "first", 2, dryRun="All").text,
        timeout=PATIENCE_SECONDS,
        what="the policy is in force",
    )
    return gateway


def make_deployment(kube, namespace, name, replicas, selector):
    labels = {"app.kubernetes.io/managed-by": "modelserver-operator", **selector}
    container = {"name": "server", "image": "registry.example/runtime:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return kube.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": selector},
                "template": template,
            },
        }
    )


def scale_of(namespace, name):
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"


def set_scale(gateway, namespace, name, replicas, **options):
    body = {"spec": {"replicas": replicas}}
    path = scale_of(namespace, name)
    return gateway.ask("PATCH", path, body, content_type=SCALES, params=options)


def replicas_of(kube, namespace, name):
    return kube.get(scale_of(namespace, name))["spec"].get("replicas", 0)


# -- waking --------------------------------------------------------------------------------------


async def test_a_model_is_woken(kube, wakes, namespace, cluster, token, tmp_path):
    """As gateways themselves do it: several at once, and one of them does it."""
    make_deployment(kube, namespace, "chat-abc", 0, OF_REVISION)
    (tmp_path / "token").write_text(token)
    files = {"token_file": tmp_path / "token", "ca_file": cluster.ca_file}
    waker = Waker(ApiClient(Account(url=cluster.url, **files)))
    model = ServedModel(key=ServerKey(namespace, "chat"), names=("chat",), revision="abc")
    woken = await asyncio.gather(*(waker.wake(model) for _ in range(5)))
    assert sum(woken) == 1
    assert replicas_of(kube, namespace, "chat-abc") == 1


@pytest.mark.parametrize(
    ("before", "after"), [(0, 2), (0, 0), (1, 0), (1, 1), (1, 2), (2, 1), (5, 0)]
)
def test_every_other_number_is_refused(kube, wakes, namespace, before, after):
    make_deployment(kube, namespace, "chat-abc", before, OF_REVISION)
    answer = set_scale(wakes, namespace, "chat-abc", after)
    assert answer.status_code == 403, answer.text
    assert f"was to set them from {before} to {after}" in answer.json()["message"]
    assert replicas_of(kube, namespace, "chat-abc") == before


@pytest.mark.parametrize(
    "selector",
    [
        {"app": "database"},
        OF_ROUTER,
        OF_REVISION | {"app": "x"},
        {"modelserver.dev/server": "chat"},
        {"modelserver.dev/revision": "abc"},
    ],
)
def test_what_is_no_revision_of_a_model_is_not_woken(kube, wakes, namespace, selector):
    make_deployment(kube, namespace, "other", 0, selector)
    answer = set_scale(wakes, namespace, "other", 1)
    assert answer.status_code == 403, answer.text
    assert "wakes revisions of ModelServers only, and Deployment other" in answer.json()["message"]
    assert replicas_of(kube, namespace, "other") == 0


def test_a_deployment_cannot_be_dressed_up_by_the_one_who_scales_it(kube, wakes, namespace):
    """What a Scale says of itself beyond the number is not looked at."""
    make_deployment(kube, namespace, "other", 0, {"app": "database"})
    selector = "modelserver.dev/revision=abc,modelserver.dev/server=chat"
    metadata = {"labels": {"app.kubernetes.io/managed-by": "modelserver-operator"}}
    body = {"metadata": metadata, "spec": {"replicas": 1}, "status": {"selector": selector}}
    for kind in ("merge-patch+json", "apply-patch+yaml"):
        typed = {"apiVersion": "autoscaling/v1", "kind": "Scale"} if "apply" in kind else {}
        answer = wakes.ask(
            "PATCH",
            scale_of(namespace, "other"),
            typed | body,
            content_type=f"application/{kind}",
            params={"fieldManager": "x"},
        )
        assert not answer.is_success
    assert replicas_of(kube, namespace, "other") == 0


def test_others_may_scale_as_before(kube, wakes, namespace):
    """Autoscalers and people are none of this policy's business."""
    make_deployment(kube, namespace, "chat-abc", 1, OF_REVISION)
    for replicas in (4, 0, 2):
        kube.patch(scale_of(namespace, "chat-abc"), {"spec": {"replicas": replicas}})
        assert replicas_of(kube, namespace, "chat-abc") == replicas


# -- and nothing else ----------------------------------------------------------------------------


def test_it_has_three_rights_and_no_more(rendered):
    rights = {
        Permission("ClusterRole", "modelserver.dev", "modelservers", "list"),
        Permission("ClusterRole", "modelserver.dev", "modelservers", "watch"),
        Permission("ClusterRole", "discovery.k8s.io", "endpointslices", "list"),
        Permission("ClusterRole", "discovery.k8s.io", "endpointslices", "watch"),
        Permission("ClusterRole", "apps", "deployments/scale", "get"),
        Permission("ClusterRole", "apps", "deployments/scale", "patch"),
    }
    assert permissions(rendered, ACCOUNT) == rights


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces/{}/secrets/keys"),
        ("GET", "/api/v1/namespaces/modelserver-system/secrets/modelserver-gateway-keys"),
        ("GET", "/api/v1/namespaces/{}/configmaps"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/apis/apps/v1/namespaces/{}/deployments/chat-abc"),
        ("PATCH", "/apis/apps/v1/namespaces/{}/deployments/chat-abc"),
        ("PUT", "/apis/apps/v1/namespaces/{}/deployments/chat-abc/scale"),
        ("PATCH", "/apis/apps/v1/namespaces/{}/statefulsets/chat-abc/scale"),
        ("PATCH", "/apis/modelserver.dev/v1alpha1/namespaces/{}/modelservers/chat"),
        ("PATCH", "/apis/modelserver.dev/v1alpha1/namespaces/{}/modelservers/chat/status"),
        ("PATCH", "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/chat"),
        ("POST", "/api/v1/namespaces/{}/serviceaccounts/default/token"),
    ],
)
def test_it_may_do_nothing_else(kube, gateway, namespace, method, path):
    make_deployment(kube, namespace, "chat-abc", 0, OF_REVISION)
    body = None if method == "GET" else {"spec": {"replicas": 1}}
    answer = gateway.ask(method, path.format(namespace), body, content_type=SCALES)
    assert answer.status_code == 403, answer.text
    assert "forbidden" in answer.json()["message"]


# -- as it is installed --------------------------------------------------------------------------


def test_every_object_is_accepted_as_written(kube, token, rendered):
    strict = {"fieldManager": "x", "dryRun": "All", "fieldValidation": "Strict", "force": "true"}
    for manifest in rendered:
        kind = "application/apply-patch+yaml"
        answer = kube.ask("PATCH", path_of(manifest), manifest, content_type=kind, params=strict)
        assert answer.is_success, answer.text
        assert "warning" not in answer.headers, answer.headers["warning"]


def test_its_pods_are_admitted_where_pod_security_is_restricted(kube, token, rendered):
    [deployment] = of_kind(rendered, "Deployment")
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"] | {"name": "gateway", "namespace": HOME},
        "spec": template["spec"],
    }
    path = path_of(pod, collection=True)
    answer = kube.ask("POST", path, pod, params={"dryRun": "All"})
    assert answer.status_code == 201, answer.text
    pod["spec"] = pod["spec"] | {"hostNetwork": True}
    assert kube.ask("POST", path, pod, params={"dryRun": "All"}).status_code == 403


def test_models_give_way_to_it_and_to_the_operator(kube, token, rendered, installation):
    """By a class that the operator's manifests bring, below those of the cluster itself."""
    [own], [klass] = (
        of_kind(rendered, "Deployment"),
        of_kind(installation.manifests, "PriorityClass"),
    )
    for deployment in (own, installation.deployment):
        spec = deployment["spec"]["template"]["spec"]
        assert spec["priorityClassName"] == klass["metadata"]["name"]
    assert 0 < kube.get(path_of(klass))["value"] < LEAST_OF_THE_CLUSTER


def test_who_drains_is_not_killed(rendered):
    [deployment] = of_kind(rendered, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    variables = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    drain = int(variables["MODELSERVER_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain


OWN = Pod(HOME, {"app.kubernetes.io/name": ACCOUNT})
CLIENT = Pod("shop", {"app": "web"})
OUTSIDE = Address("203.0.113.7")
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
MODEL = Pod("models", {"modelserver.dev/server": "chat"})
DATABASE = Pod("models", {"app": "database"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
API_SERVER = Address("10.0.0.1")
METADATA_SERVICE = Address("169.254.169.254")

FLOWS = [
    (CLIENT, OWN, 8080, True),
    (OUTSIDE, OWN, 8080, True),
    (CLIENT, OWN, 20000, True),
    (CLIENT, OWN, 29999, True),
    (CLIENT, OWN, 30000, False),
    (CLIENT, OWN, 9090, False),
    (PROMETHEUS, OWN, 9090, True),
    (OWN, MODEL, 8080, True),
    (OWN, MODEL, 22, False),
    (OWN, DATABASE, 8080, False),
    (OWN, DNS, 53, True),
    (OWN, API_SERVER, 6443, True),
    (OWN, API_SERVER, 443, True),
    (OWN, API_SERVER, 22, False),
    (OWN, METADATA_SERVICE, 443, False),
]


@pytest.mark.parametrize(("source", "destination", "port", "expected"), FLOWS)
def test_only_these_flows_pass(rendered, source, destination, port, expected):
    policies = of_kind(rendered, "NetworkPolicy")
    assert policies
    assert passes(Flow(source, destination, port), policies) is expected
