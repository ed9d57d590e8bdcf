"""ModelServers that scale, by the real HPA and the real KEDA or without them, under marked traffic.

Whoever decides, the pods come and go without a request being lost, and never fall below what
there was because somebody else decides now.
"""

import json
import math
from contextlib import contextmanager

import pytest

from devcluster.demo.clusters import devcluster
from e2e.rollout_play import PATIENCE, Play
from e2e.rollout_scenarios import CANARY
from e2e.rollout_verdicts import require_unnoticed
from support.waiting import wait_until

pytestmark = [
    pytest.mark.scaling,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("operator_with_prometheus"),
]

MOST = 4
# Requests a second. Half of MUCH is enough for all pods, where the machine has no time for more.
MUCH, LITTLE = 10, 0.5
# Of MUCH, twenty are in flight, and they take eight times the cpu that a pod requests.
LOADED = {"ANSWER_MILLISECONDS": "2000", "CPU_MILLISECONDS": "40"}
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}}
IN_FLIGHT = {"metrics": [{"name": "inflight", "target": 3}]}
BY_CPU = {"metrics": [{"name": "cpu", "target": 100}]}
# Prometheus sees what clients get, whatever the pods say of themselves.
BY_QUERY = 'sum(rate(modelserver_requests_total{{pod=~"{name}-.+",job="modelservers"}}[15s]))'


# -- stage -----------------------------------------------------------------------------------------


class Scaled(Play):
    """A play of one revision, whose pods come and go."""

    numbers = None  # every state of every Deployment

    @property
    def deployment(self):
        return f"{self.name}-{self.old}"

    @property
    def scaling(self):
        return self.last.status.get("scaling", {})

    def asked(self):
        """How many pods were asked for, each time that it changed."""
        seen = (one.server["spec"]["replicas"] for one in self.numbers.of(self.deployment))
        numbers = []
        for number in seen:
            if numbers[-1:] != [number]:
                numbers.append(number)
        return numbers

    def asked_since(self, state):
        return {one.server["spec"]["replicas"] for one in self.numbers.of(self.deployment)[state:]}

    def fewest_asked_together(self):
        """Of both revisions, since the other one was asked for."""
        asked, fewest = {}, math.inf
        deployments = {self.deployment, f"{self.name}-{self.new}"}
        for one in list(self.numbers.seen):
            name = one.server["metadata"]["name"]
            if name in deployments:
                asked[name] = one.server["spec"]["replicas"]
                fewest = min(fewest, sum(asked.values())) if one.at > self.changed_at else fewest
        return fewest

    def until_pods(self, number):
        """Ready ones, and no more asked for."""

        def there():
            states = self.numbers.of(self.deployment)
            deployment = states[-1].server if states else {"spec": {}}
            ready = deployment.get("status", {}).get("readyReplicas", 0)
            return deployment["spec"].get("replicas") == number == ready

        try:
            wait_until(there, timeout=2 * PATIENCE, what=f"{self.name}: {number} pods")
        except AssertionError as failure:
            told = self.servers.run("describe", "hpa")
            raise AssertionError(f"{failure}\n{json.dumps(self.last.status)}\n{told}") from failure

    def scale_by(self, autoscaling, **more):
        """Another way to scale, from now on; None gives it up."""
        patch = {"spec": {"autoscaling": autoscaling, **more}}
        self.servers.run("patch", "modelserver", self.name, "--type=merge", "-p", json.dumps(patch))

    def until_decided_by(self, engine, reason, status="True"):
        def decided(one):
            decides = one.status.get("scaling", {}).get("engine")
            told = condition(one)
            found = (decides, told.get("reason"), told.get("status"))
            return one.is_current and found == (engine, reason, status)

        self.until(decided, f"{engine} decides, {reason}")
        return says(self.last)

    def there(self, kind):
        return self.servers.get(kind, self.deployment) is not None


def condition(seen):
    return next((c for c in seen.status.get("conditions", ()) if c["type"] == "Scaling"), {})


def says(seen):
    return condition(seen).get("message", "")


@pytest.fixture
def a_scaled(module_servers, watch, numbers, marked):
    @contextmanager
    def make(name, autoscaling):
        env = [{"name": key, "value": value} for key, value in LOADED.items()]
        spec = {key: value for key, value in marked.items() if key != "replicas"}
        spec |= {"runtime": {**marked["runtime"], "env": env}, "resources": RESOURCES}
        spec["autoscaling"] = limited(autoscaling)
        play = Scaled(servers=module_servers, watch=watch, name=name, spec=spec)
        play.numbers = numbers
        with play.on_stage(CANARY):
            play.traffic.rate = LITTLE
            yield play
            play.traffic.rate = MUCH  # so that the last answers that are waited for come soon

    return make


def limited(autoscaling):
    return {"maxReplicas": MOST, "scaleDownDelaySeconds": 15, **autoscaling}


def require_four_and_back(play):
    play.traffic.rate = MUCH
    play.until_pods(MOST)
    play.traffic.rate = LITTLE
    play.until_pods(1)


@pytest.fixture
def bare(cluster, kubectl):
    """A cluster with neither metrics-server nor KEDA."""
    for name in ("keda", "metrics-server"):
        devcluster(f"remove-{name}", "--name", cluster.name)


# -- without anybody else --------------------------------------------------------------------------


def test_without_keda_the_operator_scales_and_says_what_is_missing(bare, a_scaled, record):
    with a_scaled("no-keda", {"engine": "KEDA", **IN_FLIGHT}) as play:
        message = play.until_decided_by("Operator", "KEDAMissing", "False")
        assert "Install KEDA" in message
        require_four_and_back(play)
        assert not play.there("hpa")
    require_unnoticed(play, record)


def test_without_metrics_server_the_operator_asks_the_pods_for_their_cpu(bare, a_scaled, record):
    with a_scaled("no-metrics", {"engine": "HPA", **BY_CPU}) as play:
        message = play.until_decided_by("Operator", "HPAMissing", "False")
        assert "Install metrics-server" in message
        require_four_and_back(play)
        assert not play.there("hpa")
    require_unnoticed(play, record)


# -- with them -------------------------------------------------------------------------------------


def test_the_hpa_scales_by_cpu_and_loses_no_request(metrics_server, a_scaled, record):
    with a_scaled("by-cpu", BY_CPU) as play:
        play.until_decided_by("HPA", "Found")
        require_four_and_back(play)
        assert play.there("hpa")
        assert 0 not in play.asked()
    require_unnoticed(play, record)


def test_keda_scales_by_prometheus_and_loses_no_request(keda, a_scaled, record):
    """By the query that the operator writes, and by one that the user gives."""
    query = {"name": "asked", "query": BY_QUERY.format(name="by-query"), "target": "1"}
    with a_scaled("by-query", {**IN_FLIGHT, "queries": [query]}) as play:
        play.until_decided_by("KEDA", "Found")
        require_four_and_back(play)
        scaled = play.servers.get("scaledobject", play.deployment)
        assert len(scaled["spec"]["triggers"]) == 2
        # KEDA has put an empty spec.advanced.scalingModifiers beside what the operator wrote.
        assert scaled["metadata"]["generation"] == 2, "somebody writes for ever"
        assert 0 not in play.asked()
    require_unnoticed(play, record)


def test_no_pod_goes_because_somebody_else_decides(keda, metrics_server, a_scaled, record):
    """Every way from one to another; each has looked at the pods before the next one comes."""
    slow = {"scaleDownDelaySeconds": 600}  # longer than this takes: no pod has a reason to go
    by = {
        "KEDA": {"engine": "KEDA", **IN_FLIGHT, **slow},
        "HPA": {"engine": "HPA", **BY_CPU, **slow},
        "Operator": {"engine": "Operator", **IN_FLIGHT, **slow},
    }
    with a_scaled("handed", by["Operator"]) as play:
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        before = len(play.numbers.of(play.deployment))
        for engine in ("HPA", "KEDA", "HPA", "Operator", "KEDA", "Operator"):
            play.scale_by(limited(by[engine]))
            play.until_decided_by(engine, "Chosen")
            until_only(play, engine)
        for engine in ("Operator", "HPA", "KEDA", "Operator", "nobody"):
            play.scale_by(None, replicas=MOST)
            play.until(lambda one: one.is_current and not one.status.get("scaling"), "replicas")
            until_only(play, "nobody")
            if engine in by:
                play.scale_by(limited(by[engine]), replicas=1)
                play.until_decided_by(engine, "Chosen")
                until_only(play, engine)
        assert play.asked_since(before) <= {MOST}
    require_unnoticed(play, record)


def until_only(play, engine):
    """Of what scales there is that of the engine and nothing else, and it has reckoned."""
    own, of_keda = play.deployment, f"keda-hpa-{play.deployment}"
    wanted = {"HPA": {own}, "KEDA": {of_keda}}.get(engine, set())

    def there():
        hpas = {name: play.servers.get("hpa", name) for name in (own, of_keda)}
        found = {name for name, hpa in hpas.items() if hpa is not None}
        is_told = play.there("scaledobject") == (engine == "KEDA")
        own_looks = engine != "Operator" or bool(play.scaling.get("window"))
        reckoned = own_looks and all(has_reckoned(hpas[name]) for name in wanted)
        return found == wanted and is_told and reckoned

    wait_until(there, timeout=PATIENCE, what=f"only {engine} scales {play.name}", interval=1)


def has_reckoned(hpa):
    conditions = hpa.get("status", {}).get("conditions", ())
    return {"type": "ScalingActive", "status": "True"} in [
        {key: one[key] for key in ("type", "status")} for one in conditions
    ]


def until_looked_at(play):
    """Longer than an HPA waits between two looks, and than it waits before pods may go."""
    play.traffic.wait_for_answers(int(60 * LITTLE), timeout=PATIENCE)


def test_keda_takes_no_pod_while_prometheus_is_down(keda, prometheus, a_scaled, record):
    with a_scaled("unseen", {"engine": "KEDA", **IN_FLIGHT}) as play:
        play.until_decided_by("KEDA", "Chosen")
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        before = len(play.numbers.of(play.deployment))
        prometheus.kill()
        play.traffic.rate = LITTLE
        try:
            play.until(lambda one: "cannot measure metric-inflight" in says(one), "what KEDA lacks")
            until_looked_at(play)
            assert play.asked_since(before) <= {MOST}
        finally:
            prometheus.start()
        play.until_pods(1)
        play.until_decided_by("KEDA", "Chosen")
    require_unnoticed(play, record)


@pytest.fixture
def measuring(kubectl, metrics_server):
    """Whether metrics-server runs."""

    def measuring(is_wanted):
        scale = ("scale", "deployment/metrics-server", f"--replicas={int(is_wanted)}")
        kubectl.run("-n", "kube-system", *scale)

    yield measuring
    measuring(is_wanted=True)


def test_the_hpa_takes_no_pod_while_metrics_server_is_down(measuring, a_scaled, record):
    with a_scaled("unmeasured", {"engine": "HPA", **BY_CPU}) as play:
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        before = len(play.numbers.of(play.deployment))
        measuring(is_wanted=False)
        message = play.until_decided_by("HPA", "AutoscalerFailing", "False")
        assert "The HPA says" in message
        play.traffic.rate = LITTLE
        until_looked_at(play)
        assert play.asked_since(before) <= {MOST}
        measuring(is_wanted=True)
        play.until_pods(1)
        play.until_decided_by("HPA", "Chosen")
    require_unnoticed(play, record)


def test_a_canary_takes_over_with_as_many_pods_as_keda_had_made(keda, a_scaled, record):
    with a_scaled("rolled", {"engine": "KEDA", **IN_FLIGHT, "scaleDownDelaySeconds": 600}) as play:
        play.until_decided_by("KEDA", "Chosen")
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        play.change(**LOADED, MARKER="second")
        play.until_phase("Succeeded")
        play.until_gone(play.old)
        assert play.fewest_asked_together() >= MOST
    require_unnoticed(play, record)
    assert play.last.status["servingRevision"] == play.new


@pytest.fixture
def passing_keda(cluster, kubectl):
    """A KEDA that a test may remove; there is none afterwards."""
    devcluster("install-keda", "--name", cluster.name)
    yield
    devcluster("remove-keda", "--name", cluster.name)


def test_when_keda_is_removed_the_operator_takes_its_pods_over(
    passing_keda, cluster, a_scaled, record
):
    with a_scaled("bereft", {"engine": "KEDA", **IN_FLIGHT}) as play:
        play.until_decided_by("KEDA", "Chosen")
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        before = len(play.numbers.of(play.deployment))
        devcluster("remove-keda", "--name", cluster.name)
        play.until_decided_by("Operator", "KEDAMissing", "False")
        play.traffic.wait_for_answers(10 * MUCH, timeout=PATIENCE)
        assert play.asked_since(before) <= {MOST}
        play.traffic.rate = LITTLE
        play.until_pods(1)
    require_unnoticed(play, record)


def test_a_keda_that_leaves_its_finalizers_behind_is_told_and_taken_over(
    passing_keda, kubectl, a_scaled, record
):
    """As when its programs are deleted before its definitions."""
    with a_scaled("orphaned", {"engine": "KEDA", **IN_FLIGHT}) as play:
        play.until_decided_by("KEDA", "Chosen")
        play.traffic.rate = MUCH
        play.until_pods(MOST)
        before = len(play.numbers.of(play.deployment))
        kubectl.run("-n", "keda", "delete", "deployments", "--all", "--wait")
        kubectl.run("delete", "crd", "scaledobjects.keda.sh", "--wait=false")
        message = play.until_decided_by("KEDA", "AutoscalerFailing", "False")
        assert "The HPA says" in message
        scaled = ("patch", "scaledobject", play.deployment, "--type=merge", "-p")
        play.servers.run(*scaled, json.dumps({"metadata": {"finalizers": None}}))
        play.until_decided_by("Operator", "KEDAMissing", "False")
        assert play.asked_since(before) <= {MOST}
        play.traffic.rate = LITTLE
        play.until_pods(1)
    require_unnoticed(play, record)
