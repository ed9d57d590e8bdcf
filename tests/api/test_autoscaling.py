"""The number of pods follows what is asked for, whoever writes it; none are there for nobody."""

import pytest

from support.played_scaling import GATEWAY, gateway_pod, resource_metrics
from support.servers import pinned
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stage")

BY_LOAD = {"maxReplicas": 5, "scaleDownDelaySeconds": 0}
ASLEEP = {**BY_LOAD, "minReplicas": 0, "zero": {"idleSeconds": 10}}


def scaled(**autoscaling):
    return pinned(autoscaling=autoscaling)


class Scaled:
    """One server whose pods say what the traffic of the stage plays."""

    def __init__(self, servers, stage):
        self.servers, self.stage, self.kube = servers, stage, servers.kube
        stage.direct(stage.traffic.outcome, server="chat")
        stage.traffic.idle.add("chat")

    def create(self, **autoscaling):
        self.servers.create("chat", scaled(**autoscaling))
        return self.servers.wait_settled("chat")

    def load(self, in_flight):
        self.stage.traffic.in_flight["chat"] = in_flight
        if in_flight:
            self.stage.traffic.idle.discard("chat")
        else:
            self.stage.traffic.idle.add("chat")

    @property
    def status(self):
        return self.servers.status("chat").get("scaling", {})

    @property
    def revision(self):
        return self.servers.status("chat")["servingRevision"]

    @property
    def deployment(self):
        return self.servers.child("Deployment", f"chat-{self.revision}")

    @property
    def pods(self):
        return self.deployment["spec"]["replicas"]

    def wait(self, holds, what, timeout=60):
        try:
            return wait_until(holds, timeout=timeout, what=what, interval=0.1)
        except AssertionError as failure:
            status = self.servers.status("chat")
            raise AssertionError(f"{failure}; status: {status}") from failure

    def wait_for_pods(self, number, timeout=60):
        def has_them():
            ready = self.deployment.get("status", {}).get("readyReplicas", 0)
            return self.pods == number == ready

        self.wait(has_them, f"{number} pods", timeout)

    def wait_for_questions(self, number):
        asked, since = self.stage.traffic.questions, self.stage.traffic.questions["chat"]
        self.wait(lambda: asked["chat"] >= since + number, f"{number} questions")

    @property
    def slices(self):
        """The gateway's addresses behind the server's Services, by the name of the Service."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.servers.namespace}/endpointslices"
        ours = "endpointslice.kubernetes.io/managed-by=modelserver-operator"
        return {
            one["metadata"]["labels"]["kubernetes.io/service-name"]: one
            for one in self.kube.items(path, ours)
        }

    def wait_for_engine(self, engine):
        self.wait(lambda: self.status.get("engine") == engine, f"engine {engine}")

    def wait_for_phase(self, phase, timeout=90):
        def is_there():
            return self.status.get("zero", {}).get("phase") == phase

        self.wait(is_there, f"phase {phase}", timeout)

    def owners(self):
        """Managers of spec.replicas."""
        return {
            entry["manager"]
            for entry in self.deployment["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }

    def scale(self, number, manager):
        """As an HPA does, or a gateway."""
        path = f"{self.servers.child_path('Deployment', f'chat-{self.revision}')}/scale"
        query = {"fieldManager": manager}
        body = {"spec": {"replicas": number}}
        answer = self.kube.ask(
            "PATCH", path, body, content_type="application/merge-patch+json", params=query
        )
        assert answer.is_success, answer.text


@pytest.fixture
def chat(servers, stage, operator):
    assert operator.is_running
    return Scaled(servers, stage)


@pytest.fixture
def gateway(kube):
    """The address of a pod of it that is ready."""
    with gateway_pod(kube) as address:
        yield address


@pytest.fixture
def metrics_server(kube):
    with resource_metrics(kube):
        yield


def test_the_operator_scales_by_what_the_pods_say(chat):
    chat.create(**BY_LOAD)
    chat.load(32)
    chat.wait_for_pods(4)
    assert chat.status["engine"] == "Operator"
    grown = chat.status["history"][-1]
    assert (grown["to"], grown["reason"]) == (4, "inflight 32/8")
    assert chat.servers.condition("chat", "Scaling")["status"] == "True"
    chat.load(0)
    chat.wait_for_pods(1)
    assert chat.status["history"][-1]["to"] == 1


def test_more_pods_than_allowed_are_never_wanted(chat):
    chat.create(**BY_LOAD)
    chat.load(800)
    chat.wait_for_pods(5)
    assert chat.status["maxReplicas"] == 5


def test_a_pod_that_does_not_answer_takes_none_away(chat):
    chat.create(**BY_LOAD)
    chat.load(32)
    chat.wait_for_pods(4)
    chat.stage.traffic.silent.add("chat")
    chat.load(0)
    chat.wait_for_questions(8)  # of each pod twice
    assert chat.pods == 4


def test_without_metrics_server_the_operator_scales_and_says_so(chat):
    metrics = [{"name": "cpu", "target": 70}]
    chat.create(**BY_LOAD, engine="HPA", metrics=metrics)
    condition = chat.servers.condition("chat", "Scaling")
    assert (condition["status"], condition["reason"]) == ("False", "HPAMissing")
    assert "metrics-server" in condition["message"]
    assert chat.status["engine"] == "Operator"


@pytest.mark.usefixtures("metrics_server")
def test_an_hpa_takes_the_number_over_and_gives_it_back_without_a_dip(chat):
    """Both ways while three pods serve: never fewer than three."""
    chat.create(**BY_LOAD, minReplicas=3)
    chat.wait_for_pods(3)
    metrics = [{"name": "cpu", "target": 70}]
    chat.servers.patch("chat", {"autoscaling": {"engine": "HPA", "metrics": metrics}})
    chat.wait_for_engine("HPA")
    name = f"chat-{chat.revision}"
    hpa = chat.wait(lambda: chat.servers.child("HorizontalPodAutoscaler", name), "the autoscaler")
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (3, 5)
    assert chat.owners() == {"modelserver-operator-handover"}
    assert chat.pods == 3
    chat.scale(5, "kube-controller-manager")
    chat.wait(lambda: chat.status["desired"] == 5, "the operator follows")
    assert chat.status["history"][-1]["to"] == 5
    chat.servers.patch("chat", {"autoscaling": {"engine": "Operator"}})
    chat.wait(lambda: "modelserver-operator" in chat.owners(), "the operator writes again")
    assert chat.servers.child("HorizontalPodAutoscaler", name) is None
    assert chat.pods == 5


def test_pods_sleep_when_nobody_asks_and_the_gateway_wakes_them(chat, gateway):
    chat.create(**ASLEEP)
    chat.wait_for_phase("Cold")
    chat.wait(lambda: not chat.servers.pods("chat"), "the last pod is gone")
    (holder,) = chat.slices.values()
    assert [one["addresses"] for one in holder["endpoints"]] == [[gateway]]
    assert holder["ports"][0]["port"] == chat.status["holderPort"]
    ready = chat.servers.wait_condition("chat", "Ready", "True")
    assert chat.servers.condition("chat", "Ready")["reason"] == "Asleep", ready
    assert chat.pods == 0
    chat.scale(1, GATEWAY)
    chat.wait_for_phase("Warm")
    chat.wait_for_pods(1)
    chat.wait(lambda: not chat.slices, "the gateway's addresses are gone")
    assert "modelserver-operator" in chat.owners()
    assert chat.status["coldStartSeconds"] >= 0


def test_nobody_sleeps_while_there_is_no_gateway(chat):
    chat.create(**ASLEEP)
    ports = chat.wait(lambda: chat.status.get("holderPort"), "a port")
    assert 20_000 <= ports <= 29_999
    chat.wait_for_questions(3)  # one in 15 s: the server is idle for longer than it may be
    assert chat.status["zero"]["phase"] == "Warm"
    assert chat.pods == 1


def test_a_server_with_a_number_and_autoscaling_is_refused(servers):
    spec = pinned(replicas=3, autoscaling=BY_LOAD)
    answer = servers.kube.ask("POST", servers.collection, servers.manifest("chat", spec))
    assert answer.status_code == 422
    assert "replicas and autoscaling exclude each other" in answer.text


def test_autoscaling_that_is_removed_leaves_the_number_of_the_spec(chat):
    chat.create(**BY_LOAD, minReplicas=3)
    chat.wait_for_pods(3)
    chat.servers.patch("chat", {"autoscaling": None, "replicas": 2})
    chat.wait_for_pods(2)
    chat.wait(lambda: not chat.status, "no scaling in the status")


def test_keda_takes_the_number_over_for_triggers_of_its_own(chat):
    trigger = {"name": "jobs", "type": "rabbitmq", "metadata": {"queueName": "jobs"}}
    chat.create(**BY_LOAD, minReplicas=2, triggers=[trigger])
    chat.wait_for_engine("KEDA")
    path = f"/apis/keda.sh/v1alpha1/namespaces/{chat.servers.namespace}/scaledobjects"
    made = chat.wait(lambda: chat.kube.get(f"{path}/chat-{chat.revision}"), "the ScaledObject")
    assert (made["spec"]["minReplicaCount"], made["spec"]["maxReplicaCount"]) == (2, 5)
    assert [one["type"] for one in made["spec"]["triggers"]] == ["rabbitmq"]
    assert chat.pods == 2
    assert "modelserver-operator" not in chat.owners()


def test_hosts_that_a_gateway_routes_reach_the_holder_too(chat, gateway):
    """Their routes lead to the revision's Service, past the server's own."""
    traffic = {"router": "GatewayAPI", "gateways": ["edge"], "hosts": ["chat.example.com"]}
    chat.servers.create("chat", scaled(**ASLEEP) | {"traffic": traffic})
    chat.wait_for_phase("Cold")
    assert set(chat.slices) == {"chat", f"chat-{chat.revision}"}
    for one in chat.slices.values():
        assert one["endpoints"][0]["addresses"] == [gateway]


@pytest.mark.usefixtures("gateway")
def test_a_new_version_that_comes_in_sleep_is_what_the_next_request_wakes(chat):
    chat.create(**ASLEEP)
    chat.wait_for_phase("Cold")
    before = chat.revision
    chat.servers.patch("chat", {"runtime": {"args": ["--next"]}})
    chat.wait(lambda: chat.revision != before, "the new revision takes over")
    assert chat.status["zero"]["phase"] == "Cold"
    assert chat.pods == 0
    chat.scale(1, GATEWAY)
    chat.wait_for_phase("Warm")
    chat.wait_for_pods(1)
