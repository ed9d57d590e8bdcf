"""Each flow that must pass and each that must not, by phase and by policy."""

import pytest

from support.network_policy import Address, Flow, Pod, passes
from support.planning import CONFIG, a_server, plan_for

HUB = Address("13.107.42.1")
HUB_V6 = Address("2600:9000::1")
METADATA_SERVICE = Address("169.254.169.254")
METADATA_SERVICE_V6 = Address("fd00:ec2::254")
OUTSIDE = Address("203.0.113.7")
DATABASE = Address("10.20.0.5")

SAME = Pod("models", {"app": "client"})
OTHER = Pod("elsewhere", {"app": "client"}, namespace_labels={"team": "a"})
GATEWAY = Pod("edge", {"app": "gateway"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
NOT_DNS = Pod("kube-system", {"app": "other"})
FAKE_DNS = Pod("elsewhere", {"k8s-app": "kube-dns"})
OPERATOR = Pod("modelserver-system", {"app.kubernetes.io/name": "modelserver-operator"})
OPERATORS_NEIGHBOUR = Pod("modelserver-system", {"app": "other"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
API_SERVER = Address("10.96.0.1")

FROM_HUB = {"model": {"uri": "hf://org/model", "revision": "0" * 40}}
ON_CLAIM = {"model": {"uri": "pvc://models"}}


def policies_and_pod(spec, phase, **config):
    """The server's policies, and one of its pods in a phase."""
    plan = plan_for(a_server(spec), config=type(CONFIG)(runtime_image="image", **config))
    by_kind = {}
    for write in plan.writes:
        by_kind.setdefault(write.manifest["kind"], []).append(write.manifest)
    labels = by_kind["Deployment"][0]["spec"]["template"]["metadata"]["labels"]
    pod = Pod("models", {**labels, "modelserver.dev/phase": phase}, ip="10.0.0.9")
    return by_kind.get("NetworkPolicy", []), pod


INGRESS = [
    # (who, port, passes under the default)
    (SAME, 8080, True),
    (SAME, 9090, False),
    (OTHER, 8080, False),
    (OUTSIDE, 8080, False),
    (OPERATOR, 8080, True),
    (OPERATORS_NEIGHBOUR, 8080, False),
    (PROMETHEUS, 8080, True),
    (PROMETHEUS, 22, False),
    (GATEWAY, 8080, False),
]


@pytest.mark.parametrize("phase", ["fetching", "serving"])
@pytest.mark.parametrize(("source", "port", "expected"), INGRESS)
def test_who_may_send_requests_by_default(phase, source, port, expected):
    policies, pod = policies_and_pod(FROM_HUB, phase)
    assert passes(Flow(source, pod, port), policies) is expected


EGRESS = [
    # (destination, port, protocol, while fetching, while serving)
    (DNS, 53, "UDP", True, True),
    (DNS, 53, "TCP", True, True),
    (DNS, 9153, "TCP", False, False),
    (NOT_DNS, 53, "UDP", False, False),
    (FAKE_DNS, 53, "UDP", False, False),
    (HUB, 443, "TCP", True, False),
    (HUB_V6, 443, "TCP", True, False),
    (HUB, 80, "TCP", False, False),
    (HUB, 443, "UDP", False, False),
    (METADATA_SERVICE, 443, "TCP", False, False),
    (METADATA_SERVICE, 80, "TCP", False, False),
    (METADATA_SERVICE_V6, 443, "TCP", False, False),
    (API_SERVER, 6443, "TCP", False, False),
    (DATABASE, 5432, "TCP", False, False),
    (SAME, 8080, "TCP", False, False),
]


@pytest.mark.parametrize(("destination", "port", "protocol", "fetching", "serving"), EGRESS)
def test_what_a_pod_may_reach_by_phase(destination, port, protocol, fetching, serving):
    for phase, expected in (("fetching", fetching), ("serving", serving)):
        policies, pod = policies_and_pod(FROM_HUB, phase)
        assert passes(Flow(pod, destination, port, protocol), policies) is expected, phase


def test_a_pod_that_calls_itself_fetching_reaches_nothing_if_its_model_is_local():
    policies, pod = policies_and_pod(ON_CLAIM, "fetching")
    assert not passes(Flow(pod, HUB, 443), policies)


def test_a_pod_whose_extra_model_is_of_the_hub_reaches_it_while_fetching_only():
    extra = {"name": "embedder", "uri": "hf://org/embedder", "revision": "0" * 40}
    spec = {**ON_CLAIM, "extraModels": [extra]}
    policies, pod = policies_and_pod(spec, "fetching")
    assert passes(Flow(pod, HUB, 443), policies)
    assert not passes(Flow(pod, METADATA_SERVICE, 443), policies)
    policies, pod = policies_and_pod(spec, "serving")
    assert not passes(Flow(pod, HUB, 443), policies)


def test_redis_is_reached_where_it_is_named_and_nowhere_else():
    redis = Pod("models", {"app": "redis"})
    rule = {"to": {"podSelector": {"matchLabels": {"app": "redis"}}}, "ports": [{"port": 6379}]}
    spec = {**ON_CLAIM, "runtime": {"redis": {"url": "redis://redis:6379/0"}}}
    policies, pod = policies_and_pod({**spec, "network": {"egressTo": [rule]}}, "serving")
    assert passes(Flow(pod, redis, 6379), policies)
    assert not passes(Flow(pod, redis, 22), policies)
    assert not passes(Flow(pod, DATABASE, 6379), policies)


def test_a_pod_without_a_phase_is_confined_like_one_that_serves():
    policies, pod = policies_and_pod(FROM_HUB, "")
    assert not passes(Flow(pod, HUB, 443), policies)
    assert not passes(Flow(OTHER, pod, 8080), policies)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("https://huggingface.co", 443),
        ("http://hub.internal:8443", 8443),
        ("http://hub.internal", 80),
        ("https://hub.internal:5000/api", 5000),
    ],
)
def test_fetching_reaches_the_port_of_the_configured_hub(endpoint, port):
    policies, pod = policies_and_pod(FROM_HUB, "fetching", hub_endpoint=endpoint)
    assert passes(Flow(pod, HUB, port), policies)
    assert passes(Flow(pod, HUB, 443), policies)  # hubs redirect to storage elsewhere
    assert not passes(Flow(pod, HUB, 9999), policies)


def test_the_pod_that_resolves_reaches_the_hub_and_dns():
    plan = plan_for(a_server({"model": {"uri": "hf://org/model"}}))
    made = {write.manifest["kind"]: write.manifest for write in plan.writes}
    policies = [w.manifest for w in plan.writes if w.manifest["kind"] == "NetworkPolicy"]
    pod = Pod("models", made["Job"]["spec"]["template"]["metadata"]["labels"])
    assert passes(Flow(pod, HUB, 443), policies)
    assert passes(Flow(pod, DNS, 53, "UDP"), policies)
    assert not passes(Flow(pod, METADATA_SERVICE, 443), policies)
    assert not passes(Flow(pod, DATABASE, 5432), policies)


@pytest.mark.parametrize(
    ("peers", "allowed", "refused"),
    [
        ([{"namespaceSelector": {"matchLabels": {"team": "a"}}}], [OTHER], [SAME, GATEWAY]),
        ([{"podSelector": {"matchLabels": {"app": "client"}}}], [SAME], [OTHER, GATEWAY]),
        (
            [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "gateway"}}}],
            [GATEWAY],
            [SAME, OTHER],
        ),
        ([{"namespaceSelector": {}}], [SAME, OTHER, GATEWAY], [OUTSIDE]),
        ([{"ipBlock": {"cidr": "203.0.113.0/24"}}], [OUTSIDE], [SAME, OTHER]),
        (
            [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.0/28"]}}],
            [],
            [OUTSIDE, SAME],
        ),
        ([{"podSelector": {}}, {"ipBlock": {"cidr": "203.0.113.7/32"}}], [SAME, OUTSIDE], [OTHER]),
    ],
)
def test_named_clients_take_the_place_of_the_namespace(peers, allowed, refused):
    spec = {**FROM_HUB, "network": {"ingressFrom": peers}}
    policies, pod = policies_and_pod(spec, "serving")
    for source in [*allowed, OPERATOR, PROMETHEUS]:
        assert passes(Flow(source, pod, 8080), policies), source
    for source in refused:
        assert not passes(Flow(source, pod, 8080), policies), source


def test_named_destinations_are_reached_at_their_ports_while_serving():
    rule = {"to": {"ipBlock": {"cidr": "10.20.0.0/16"}}, "ports": [{"port": 5432}]}
    policies, pod = policies_and_pod({**FROM_HUB, "network": {"egressTo": [rule]}}, "serving")
    assert passes(Flow(pod, DATABASE, 5432), policies)
    assert not passes(Flow(pod, DATABASE, 5433), policies)
    assert not passes(Flow(pod, DATABASE, 5432, "UDP"), policies)
    assert not passes(Flow(pod, OUTSIDE, 5432), policies)
    assert passes(Flow(pod, DNS, 53, "UDP"), policies)


def test_a_destination_without_ports_is_reached_at_all():
    rule = {"to": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}
    policies, pod = policies_and_pod({**ON_CLAIM, "network": {"egressTo": [rule]}}, "serving")
    assert passes(Flow(pod, OTHER, 1), policies)
    assert not passes(Flow(pod, SAME, 1), policies)


def test_open_lets_everybody_in_at_the_port_and_everything_out():
    policies, pod = policies_and_pod({**FROM_HUB, "network": {"policy": "Open"}}, "fetching")
    deny_all = {
        "metadata": {"namespace": "models"},
        "spec": {
            "podSelector": {"matchLabels": {"modelserver.dev/server": "chat"}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }
    policies = [*policies, deny_all]
    for source in (SAME, OTHER, OUTSIDE):
        assert passes(Flow(source, pod, 8080), policies)
        assert not passes(Flow(source, pod, 22), policies)
    for destination in (HUB, DATABASE, DNS):
        assert passes(Flow(pod, destination, 443), policies)


def test_none_makes_no_policy():
    policies, _ = policies_and_pod({**FROM_HUB, "network": {"policy": "None"}}, "serving")
    assert policies == []


def test_without_monitoring_nobody_scrapes():
    policies, pod = policies_and_pod(FROM_HUB, "serving", monitoring_namespace="")
    assert not passes(Flow(PROMETHEUS, pod, 8080), policies)
    assert passes(Flow(OPERATOR, pod, 8080), policies)


def test_the_policies_of_a_server_confine_nobody_else():
    policies, _ = policies_and_pod(FROM_HUB, "serving")
    neighbour = Pod("models", {"modelserver.dev/server": "another"})
    assert passes(Flow(neighbour, HUB, 443), policies)
    assert passes(Flow(OTHER, neighbour, 22), policies)


@pytest.mark.parametrize(
    ("policy", "flow", "expected"),
    [
        ({"podSelector": {}}, Flow(OTHER, SAME, 1), False),  # isolates ingress only
        ({"podSelector": {}}, Flow(SAME, OTHER, 1), True),
        ({"podSelector": {}, "egress": []}, Flow(SAME, OTHER, 1), False),
        ({"podSelector": {"matchLabels": {"app": "x"}}}, Flow(OTHER, SAME, 1), True),
        ({"podSelector": {}, "ingress": [{}]}, Flow(OTHER, SAME, 1), True),
        (
            {"podSelector": {}, "ingress": [{"ports": [{"port": 10, "endPort": 20}]}]},
            Flow(OTHER, SAME, 15),
            True,
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "app", "operator": "In", "values": ["client"]}]
                }
            },
            Flow(OTHER, SAME, 1),
            False,
        ),
    ],
)
def test_the_evaluator_follows_the_definition_of_the_api(policy, flow, expected):
    manifest = {"metadata": {"namespace": "models"}, "spec": policy}
    assert passes(flow, [manifest]) is expected
