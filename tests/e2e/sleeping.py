"""Servers that sleep when nobody asks, and the gateway that wakes them, in a real cluster."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx

from devcluster.demo import install
from devcluster.demo.clusters import devcluster
from modelserver_runtime.access.making import make_key
from modelserver_runtime.access.record import Grants, document_of
from support.marked_model import PORT
from support.waiting import wait_until

PATIENCE = 480  # seconds of any one thing; this machine may be busy
IDLE_SECONDS = 10
SLEEPY = {"minReplicas": 0, "maxReplicas": 2, "zero": {"idleSeconds": IDLE_SECONDS}}
KEYS = "modelserver-gateway-keys"


def a_key(**grants):
    """A secret, and the record of it that the gateway reads."""
    granted = Grants.model_validate(grants)
    made, record = make_key(granted, name="e2e", created=datetime.now(UTC))
    return made, json.dumps(document_of(record))


@contextmanager
def installed_gateway(cluster, kubectl, records, settings=None):
    """Two pods of its own image, with keys; gives the URL of its front door."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEYS, "namespace": install.NAMESPACE},
        "stringData": records,
    }
    kubectl.run("apply", "-f", "-", stdin=json.dumps(secret))
    image = devcluster("images", "gateway", capture=True).split()[-1]
    devcluster("load-image", "--name", cluster.name, image)
    install.install_gateway(kubectl, image=image, settings=settings)
    service = kubectl.get("-n", install.NAMESPACE, "service", install.GATEWAY)
    try:
        yield f"http://{service['spec']['clusterIP']}"
    finally:
        folder = str(install.ROOT / "manifests" / "gateway")
        kubectl.run("delete", "--ignore-not-found", "-k", folder)


def sleepy_spec(spec):
    """Of a server that sleeps, from one that does not."""
    kept = {field: value for field, value in spec.items() if field != "replicas"}
    return kept | {"autoscaling": SLEEPY}


class Sleeper:
    """A ModelServer of the stand-in that sleeps when nobody asks."""

    def __init__(self, servers, name):
        self.servers, self.name = servers, name

    @property
    def url(self):
        return f"{self.servers.url(self.name)}/v1/chat/completions"

    @property
    def status(self):
        return (self.servers.get("modelserver", self.name) or {}).get("status", {})

    @property
    def phase(self):
        return self.status.get("scaling", {}).get("zero", {}).get("phase")

    def pods(self):
        """Of the model; a run may have a router there already."""
        labels = f"modelserver.dev/server={self.name},modelserver.dev/revision"
        found = self.servers.get("pods", "-l", labels)
        return [pod["metadata"]["name"] for pod in (found or {"items": []})["items"]]

    def until_phase(self, *phases):
        what = f"{self.name} {' or '.join(phases)}"
        wait_until(lambda: self.phase in phases, timeout=PATIENCE, what=what, interval=0.3)

    def until_asleep(self):
        self.until_phase("Cold")
        wait_until(lambda: not self.pods(), timeout=PATIENCE, what=f"no pods of {self.name}")

    def change_environment(self, **variables):
        env = [{"name": name, "value": value} for name, value in variables.items()]
        patch = json.dumps({"spec": {"runtime": {"env": env}}})
        self.servers.run("patch", "modelserver", self.name, "--type=merge", "-p", patch)

    def change_asleep(self, **variables):
        """Another revision, of which there are no pods before somebody asks."""
        before = self.status["servingRevision"]
        self.change_environment(**variables)
        wait_until(
            lambda: self.status["servingRevision"] != before,
            timeout=PATIENCE,
            what="another revision serves",
        )
        assert not self.pods()

    def has_loaded(self):
        """Tells the pod of a stand-in that loads."""
        revision = self.status["servingRevision"]
        labels = f"modelserver.dev/server={self.name},modelserver.dev/revision={revision}"
        found = self.servers.get("pods", "-l", labels)["items"]
        addresses = [pod["status"]["podIP"] for pod in found if "podIP" in pod["status"]]
        assert addresses, json.dumps(found)
        for address in addresses:
            httpx.post(f"http://{address}:{PORT}/loaded", timeout=PATIENCE)

    def ask(self, mark, url="", **headers):
        """(status, headers, text); 0 where no answer came."""
        body = {"model": self.name, "messages": [{"role": "user", "content": mark}]}
        headers = {"x-request-id": mark, **headers}
        try:
            answer = httpx.post(url or self.url, json=body, headers=headers, timeout=PATIENCE)
        except httpx.HTTPError as failure:
            return 0, {}, repr(failure)
        return answer.status_code, answer.headers, answer.text

    def ask_many(self, pool, count, word):
        return {
            f"{word}-{number}": pool.submit(self.ask, f"{word}-{number}") for number in range(count)
        }


def require_all_answered(asked):
    """Each by its own answer."""
    for mark, future in asked.items():
        status, headers, text = future.result()
        assert status == 200, f"{mark}: {status} {text}"
        assert headers["x-request-id"] == mark


@contextmanager
def many(count):
    with ThreadPoolExecutor(count) as pool:
        yield pool
