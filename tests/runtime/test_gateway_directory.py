"""What is served is read out of ModelServers and EndpointSlices, whatever they lack."""

import pytest

from modelserver_runtime.gateway.cluster import (
    Address,
    Directory,
    HoldBounds,
    ServedModel,
    ServerKey,
)
from modelserver_runtime.gateway.cluster.reading import read_server

KEY = ServerKey("models", "chat")
METADATA = {"namespace": "models", "name": "chat", "creationTimestamp": "2026-01-01T00:00:00Z"}
CONTROLLER = "endpointslice-controller.k8s.io"


def server(status=None, **spec):
    return {"metadata": METADATA, "spec": spec, "status": status or {}}


def endpoints(service, *pods, managed_by=CONTROLLER, port="http"):
    labels = {
        "kubernetes.io/service-name": service,
        "endpointslice.kubernetes.io/managed-by": managed_by,
    }
    return {
        "metadata": {"name": service, "namespace": "models", "labels": labels},
        "ports": [{"name": port, "port": 8080}],
        "endpoints": [{"addresses": [host], "conditions": state} for host, state in pods],
    }


READY, STARTING = {"ready": True}, {"ready": False}
ENDING = {"ready": False, "terminating": True, "serving": True}
SERVING = {"servingRevision": "abc"}


def read(item, *slices):
    return read_server(item, slices, HoldBounds())


def hosts(addresses):
    return [one.host for one in addresses]


def test_a_server_of_which_nothing_is_known_yet_has_its_own_name():
    model = read({"metadata": METADATA})
    assert (model.key, model.names, model.ready, model.starting) == (KEY, ("chat",), (), ())
    assert model.hold == HoldBounds()
    assert not model.may_sleep


def test_all_names_count_the_served_one_first():
    extra = [{"name": "small", "aliases": ["tiny"]}]
    model = read(server(model={"servedName": "Org/Chat", "aliases": ["gpt"]}, extraModels=extra))
    assert model.names == ("Org/Chat", "gpt", "small", "tiny")


@pytest.mark.parametrize(
    ("slices", "ready", "starting"),
    [
        ([], [], []),
        ([endpoints("chat", ("10.0.0.1", READY), ("10.0.0.2", {}))], ["10.0.0.1", "10.0.0.2"], []),
        ([endpoints("chat", ("10.0.0.1", STARTING), ("10.0.0.2", ENDING))], [], ["10.0.0.1"]),
        # Its router divides the traffic: it is asked, and not the pods behind it.
        (
            [endpoints("chat", ("10.0.0.9", READY)), endpoints("chat-abc", ("10.0.0.1", READY))],
            ["10.0.0.9"],
            [],
        ),
        ([endpoints("chat"), endpoints("chat-abc", ("10.0.0.1", READY))], ["10.0.0.1"], []),
        # The gateway's own addresses, and another revision.
        ([endpoints("chat", ("10.0.0.9", READY), managed_by="modelserver-operator")], [], []),
        ([endpoints("chat-old", ("10.0.0.1", READY))], [], []),
        ([endpoints("chat", ("10.0.0.1", READY), port="metrics")], [], []),
    ],
)
def test_pods_are_those_to_which_the_service_leads(slices, ready, starting):
    model = read(server(SERVING), *slices)
    assert (hosts(model.ready), hosts(model.starting)) == (ready, starting)


@pytest.mark.parametrize(
    ("status", "pods", "state"),
    [
        ({}, [("10.0.0.1", READY)], "ready"),
        ({"scaling": {"zero": {"phase": "Cold"}}}, [], "cold"),
        ({"scaling": {"zero": {"phase": "Waking"}}}, [], "scheduling"),
        ({"scaling": {"zero": {"phase": "Standby"}}}, [("10.0.0.1", READY)], "ready"),
        ({"artifact": {"phase": "Fetching"}}, [("10.0.0.1", STARTING)], "fetching"),
        ({"artifact": {"phase": "Ready"}}, [("10.0.0.1", STARTING)], "loading"),
        ({"conditions": [{"type": "Stalled", "status": "True", "message": "x"}]}, [], "failed"),
        ({"conditions": [{"type": "Stalled", "status": "False"}]}, [], "scheduling"),
    ],
)
def test_the_state_in_one_word(status, pods, state):
    assert read(server(SERVING | status), endpoints("chat", *pods)).state == state


def test_what_the_spec_says_of_waiting_and_the_status_of_sleep():
    zero = {"maxHeldRequests": 7, "maxHeldBytes": 2048, "maxHoldSeconds": 9}
    status = {"scaling": {"holderPort": 20003, "coldStartSeconds": 12}}
    model = read(server(status, autoscaling={"zero": zero}, runtime={"requestTimeoutSeconds": 30}))
    assert model.hold == HoldBounds(max_requests=7, max_bytes=2048, max_seconds=9)
    assert (model.holder_port, model.cold_start_seconds, model.timeout_seconds) == (20003, 12, 30)


def model(namespace, name, created, *names, **more):
    key = ServerKey(namespace, name)
    return ServedModel(key=key, names=names or (name,), created=created, **more)


def test_the_older_server_keeps_its_name_and_no_name_takes_another_namespace():
    old = model("a", "chat", "2026-01-01", "gpt")
    young = model("b", "chat", "2026-02-01", "gpt", "a/chat")
    directory = Directory.of([young, old])
    assert directory.find("gpt") is old
    assert directory.find("a/chat") is old
    assert directory.find("b/chat") is young
    assert directory.find("nobody") is None
    assert [name for name, _ in directory.listed()] == ["gpt", "b/chat"]
    assert directory.name_for_pods("b/chat") == "gpt"


def test_a_port_is_the_older_server_s():
    old = model("a", "chat", "2026-01-01", holder_port=20000)
    young = model("b", "chat", "2026-02-01", holder_port=20000)
    assert Directory.of([young, old]).by_port == {20000: old.key}


def test_addresses_are_written_as_in_urls():
    assert str(Address("10.0.0.1", 80)) == "10.0.0.1:80"
    assert str(Address("fd00::1", 80)) == "[fd00::1]:80"
