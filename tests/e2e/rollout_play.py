"""One ModelServer under marked traffic while it is rolled out, and all that was seen of it."""

import itertools
import json
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from devcluster.demo.kubectl import documents
from modelserver_operator.cluster.readings import model_answer
from support.marked_model import PORT
from support.marked_traffic import MarkedTraffic, marked_traffic
from support.waiting import wait_until

PROGRAM = Path(__file__).resolve().parents[1] / "support" / "marked_model.py"
STAND_IN = "marked-model"  # its program and its claim
COMMAND = "modelserver.dev/command"
ASKED = "/v1/chat/completions"
PATIENCE = 240  # seconds of any one thing, on a machine that is busy


@dataclass(frozen=True)
class Seen:
    """A ModelServer as it was told at a time, in seconds since the epoch."""

    at: float
    server: dict

    @property
    def status(self):
        return self.server.get("status", {})

    @property
    def run(self):
        return self.status.get("rollout", {})

    @property
    def is_current(self):
        return self.status.get("observedGeneration") == self.server["metadata"]["generation"]


class Watch:
    """Every state of every ModelServer of a namespace, by one kubectl that watches."""

    def __init__(self, kubectl, namespace, kind="modelservers"):
        self._command = kubectl.command("-n", namespace, "get", kind, "--watch", "-o", "json")
        self._stopped = threading.Event()
        self._process = None
        self.seen = []

    def follow(self):
        while not self._stopped.is_set():
            with subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True) as process:
                self._process = process
                for document in documents(iter(process.stdout.readline, "")):
                    self._note(document)

    def _note(self, document):
        for server in document.get("items", [document]):
            self.seen.append(Seen(time.time(), server))

    def stop(self):
        self._stopped.set()
        if self._process:
            self._process.terminate()

    def of(self, name):
        return [one for one in list(self.seen) if one.server["metadata"]["name"] == name]


# A connection that is begun before the node knows of the Service leads nowhere for minutes.
FIRST_TRY = httpx.Timeout(10, connect=1)


def is_answered(url, model, host):
    """Whether a way leads to a model from there: node and Gateway learn of it after it was said."""
    messages = [{"role": "user", "content": "first"}]
    body = {"model": model, "messages": messages, "max_tokens": 1}
    headers = {"host": host} if host else {}
    try:
        return httpx.post(url, json=body, headers=headers, timeout=FIRST_TRY).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def watching(kubectl, namespace, kind="modelservers"):
    watch = Watch(kubectl, namespace, kind)
    thread = threading.Thread(target=watch.follow)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()


@dataclass
class Play:
    """A rollout as a scenario plays it."""

    servers: object
    watch: Watch
    name: str
    spec: dict  # without rollout
    entrance: str = ""  # where clients ask; the Service, unless it is given
    host: str = ""  # that clients ask for there
    traffic: MarkedTraffic | None = None
    old: str = ""
    new: str = ""
    changed_at: float = 0.0
    ended: Seen | None = None
    _tokens: object = field(default_factory=itertools.count)

    # -- what is done ------------------------------------------------------------------------------

    @contextmanager
    def on_stage(self, rollout, *, most_at_once=50):
        """The first revision serves, and clients ask it until the end of the block."""
        self.servers.apply(self.name, {**self.spec, "rollout": rollout})
        self.until(lambda one: one.status.get("servingRevision") and self._is_ready(one), "ready")
        self.old = self.last.status["servingRevision"]
        with self._clients(most_at_once) as self.traffic:
            self.traffic.wait_for_answers(25)
            yield self
            self.traffic.wait_for_answers(25)
        self.ended = self.last
        self.servers.delete(self.name)

    def _clients(self, most_at_once):
        url = self.way_in(self.entrance or self.servers.url(self.name), self.host)
        return marked_traffic(url, self.name, most_at_once, host=self.host)

    def way_in(self, entrance, host):
        """Where clients are answered, of that host if one is given; returns when they are."""
        url = f"{entrance}{ASKED}"
        wait_until(
            lambda: is_answered(url, self.name, host),
            timeout=PATIENCE,
            what=f"answers of {host or url}",
        )
        return url

    def move_clients(self, entrance, host):
        """From now on they ask there."""
        url = self.way_in(entrance, host)
        self.traffic.host, self.traffic.url = host, url  # who has the host already may ask either

    def change(self, **env):
        """Another revision is asked for, by variables of its environment."""
        variables = [{"name": name, "value": value} for name, value in env.items()]
        patch = json.dumps({"spec": {"runtime": {"env": variables}}})
        self.changed_at = time.time()
        self.servers.run("patch", "modelserver", self.name, "--type=merge", "-p", patch)
        self.until(
            lambda one: one.is_current and one.status.get("targetRevision") not in {"", self.old},
            "another target",
        )
        self.new = self.last.status["targetRevision"]

    def command(self, verb):
        text = f"{verb}/{self.new}/{next(self._tokens)}"
        self.servers.run("annotate", "modelserver", self.name, f"{COMMAND}={text}", "--overwrite")

    # -- what is seen ------------------------------------------------------------------------------

    @property
    def last(self):
        return self.ended or self.watch.of(self.name)[-1]

    def _is_ready(self, one):
        conditions = one.status.get("conditions", [])
        ready = next((c for c in conditions if c["type"] == "Ready"), {})
        return one.is_current and ready.get("status") == "True"

    def until(self, look, what):
        """Of the last state; how it was is part of the failure."""
        try:
            wait_until(
                lambda: self.watch.of(self.name) and look(self.last),
                timeout=PATIENCE, what=f"{self.name}: {what}",
            )  # fmt: skip
        except AssertionError as failure:
            story = "\n".join(self.story())
            raise AssertionError(f"{failure}\n{story}\n{json.dumps(self.last.status)}") from failure

    def until_phase(self, *phases):
        """A rollout that ended otherwise is told at once."""
        ends = {"Succeeded", "RolledBack"}
        self.until(lambda one: one.run.get("phase") in {*phases, *ends} and self._is_of_new(one),
                   " or ".join(phases))  # fmt: skip
        found = self.last.run["phase"]
        assert found in phases, f"{self.name} is {found}\n" + "\n".join(self.story())

    def _is_of_new(self, one):
        return one.run.get("to") == self.new

    def until_gone(self, revision):
        wait_until(
            lambda: not [c for c in self.servers.children(self.name)
                         if c.startswith(("Pod/", "Deployment/")) and revision in c],
            timeout=PATIENCE, what=f"{self.name}: pods of {revision} are gone", interval=1,
        )  # fmt: skip

    def requests_of(self, revision):
        """That its pods say to have answered."""
        pods = self.servers.get("pods", "-l", f"modelserver.dev/revision={revision}")["items"]
        addresses = [pod["status"]["podIP"] for pod in pods]
        answers = [httpx.get(f"http://{one}:{PORT}/metrics", timeout=10) for one in addresses]
        return sum(model_answer(answer.content).tally.requests for answer in answers)

    def states(self):
        """Of the run to the new revision, in their order."""
        return [one for one in self.watch.of(self.name) if self._is_of_new(one)]

    def story(self):
        """What was told, one line for each change."""
        lines = []
        for one in self.watch.of(self.name):
            run = one.run
            line = f"{run.get('phase')} {run.get('weights')} {run.get('message')}"
            if not lines or not lines[-1].endswith(line):
                lines.append(f"{one.at - self.changed_at:+7.1f} s {line}")
        return lines

    def entered(self, phase):
        """When the phase was first seen."""
        return next(one.at for one in self.states() if one.run["phase"] == phase)

    def seconds_of(self, phase):
        """From the change of the spec to the first sight of the phase."""
        return round(self.entered(phase) - self.changed_at, 1)

    def held_weights(self):
        """(weight, since, until) of each step, as long as the routers surely had that weight."""
        groups = [
            (weight, next(states).at)
            for weight, states in itertools.groupby(self.states(), key=_held_weight)
        ]
        return [
            (weight, since, until)
            for (weight, since), (_, until) in itertools.pairwise(groups)
            if weight is not None
        ]


def _held_weight(seen):
    """None while the routers may have one weight or another."""
    if seen.run.get("phase") != "Analyzing":
        return None
    return seen.run.get("weights", {}).get("intended", 0)
