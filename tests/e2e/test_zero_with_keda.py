"""A server that KEDA scales while it is awake, and that the operator and the gateway let sleep."""

import pytest

from e2e.sleeping import IDLE_SECONDS, PATIENCE
from support.marked_traffic import marked_traffic
from support.waiting import wait_until

pytestmark = [
    pytest.mark.scaling,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("keda", "operator_with_prometheus", "gateway"),
]

MOST = 4
# Requests a second. Half of MUCH is enough for all pods, where the machine has no time for more.
MUCH, LITTLE = 10, 0.5
LOADED = [{"name": "ANSWER_MILLISECONDS", "value": "2000"}]
BY_KEDA = {
    "engine": "KEDA",
    "minReplicas": 0,
    "maxReplicas": MOST,
    "scaleDownDelaySeconds": 15,
    "metrics": [{"name": "inflight", "target": 3}],
    "zero": {"idleSeconds": IDLE_SECONDS},
}


class Scaled:
    """A sleeper, its Deployment and what scales that."""

    def __init__(self, sleeper, numbers):
        self.sleeper, self._numbers = sleeper, numbers
        self.deployment = f"{sleeper.name}-{sleeper.status['servingRevision']}"

    def states(self):
        return [one.server for one in self._numbers.of(self.deployment)]

    def asked(self):
        """How many pods were asked for, each time that it changed."""
        numbers = []
        for state in self.states():
            number = state["spec"]["replicas"]
            if numbers[-1:] != [number]:
                numbers.append(number)
        return numbers

    def until_pods(self, number):
        """Ready ones, and no more asked for."""

        def there():
            last = self.states()[-1]
            return (
                last["spec"]["replicas"] == number == last.get("status", {}).get("readyReplicas", 0)
            )

        wait_until(there, timeout=PATIENCE, what=f"{number} pods of {self.deployment}")

    def of_keda(self):
        """The ScaledObject, and the HPA that KEDA makes for it."""
        get = self.sleeper.servers.get
        found = get("scaledobject", self.deployment), get("hpa", f"keda-hpa-{self.deployment}")
        return [one for one in found if one is not None]


def test_keda_scales_between_one_and_many_and_the_operator_to_zero_and_back(
    sleeper, marked, numbers, record
):
    runtime = {**marked["runtime"], "env": LOADED}
    sleepy = sleeper("by-both", autoscaling=BY_KEDA, runtime=runtime)
    scaled = Scaled(sleepy, numbers)
    sleepy.until_asleep()
    assert scaled.of_keda() == [], "KEDA would lift it from zero"
    before = len(scaled.asked())
    with marked_traffic(sleepy.url, sleepy.name, 50) as traffic:
        traffic.rate = MUCH
        scaled.until_pods(MOST)
        assert sleepy.status["scaling"]["engine"] == "KEDA"
        scaled_object, hpa = scaled.of_keda()
        assert scaled_object["spec"]["minReplicaCount"] == hpa["spec"]["minReplicas"] == 1
        traffic.rate = LITTLE
        scaled.until_pods(1)
    sleepy.until_asleep()
    wait_until(lambda: not scaled.of_keda(), timeout=PATIENCE, what="nothing of KEDA is left")
    record("requests", len(traffic.answers))
    record("pods_asked_for", scaled.asked())
    while_awake = scaled.asked()[before:-1]
    assert while_awake[0] == while_awake[-1] == 1
    assert max(while_awake) == MOST
    assert 0 not in while_awake
    assert scaled.asked()[-1] == 0
    assert traffic.failures() == []
    assert traffic.mistaken() == []
    assert traffic.lost() == set()
