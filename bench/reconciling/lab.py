"""A fresh API server with the operator's installation, and the operator as a process of its own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.results_file import REPOSITORY
from devcluster.api import Cluster, api_cluster

NAMESPACE = "modelserver-system"
ACCOUNT = "modelserver-operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
RUNTIME_IMAGE = "registry.example/modelserver-runtime@sha256:" + "1" * 64
CONCURRENCY = 16
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Lab:
    cluster: Cluster
    folder: Path

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        program = str(self.cluster.kubectl)
        command = [program, f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def install(self) -> None:
        """CRD, account and roles; there is no node, so the Deployment makes no pods."""
        base = REPOSITORY / "manifests" / "base"
        self.kubectl("apply", "--server-side", "-k", str(base))
        self.kubectl("wait", "--for=condition=Established", "crd/modelservers.modelserver.dev")

    def make_namespace(self, name: str) -> None:
        self.kubectl("create", "namespace", name)

    @contextmanager
    def operator(self) -> Iterator["OperatorProcess"]:
        """Ready and leading."""
        process = OperatorProcess.start(self)
        try:
            process.wait_leading()
            yield process
        finally:
            process.end()

    def write_kubeconfig(self) -> Path:
        token = self.kubectl("-n", NAMESPACE, "create", "token", ACCOUNT, "--duration=3h").strip()
        cluster = {"server": self.cluster.url, "certificate-authority": str(self.cluster.ca_file)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bench",
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "operator"}}],
            "clusters": [{"name": "bench", "cluster": cluster}],
            "users": [{"name": "operator", "user": {"token": token}}],
        }
        path = self.folder / "operator.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))
        return path


@contextmanager
def fresh_lab(name: str, folder: Path) -> Iterator[Lab]:
    """API server and etcd of its own, gone afterwards: no round inherits objects of another."""
    with api_cluster(name) as cluster:
        lab = Lab(cluster, folder)
        lab.install()
        yield lab


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    process: subprocess.Popen[bytes]
    probe_port: int
    metrics_port: int
    log: Path

    @classmethod
    def start(cls, lab: Lab) -> "OperatorProcess":
        probe, metrics = _free_port(), _free_port()
        settings = {
            "RUNTIME_IMAGE": RUNTIME_IMAGE,
            "NAMESPACE": NAMESPACE,
            "IDENTITY": "bench",
            "CONCURRENCY": str(CONCURRENCY),
            "PROBE_PORT": str(probe),
            "METRICS_PORT": str(metrics),
            "LOG_LEVEL": "WARNING",
        }
        own = {f"MODELSERVER_OPERATOR_{name}": value for name, value in settings.items()}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
        command = [sys.executable, "-m", "modelserver_operator", "run"]
        command += ["--kubeconfig", str(lab.write_kubeconfig())]
        log = lab.folder / "operator.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=kept | own, stdout=output, stderr=output)
        return cls(process, probe, metrics, log)

    def wait_leading(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "modelserver_operator_leader 1.0" not in self.metrics():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the operator does not lead:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def metrics(self) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            return ""

    def resident_megabytes(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
