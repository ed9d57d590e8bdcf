"""Argo CD as processes beside a cluster: controller, repository server, API server and Redis.

    git folder ──> repository server ──> application controller ──> kube-apiserver
                                              Redis ──┘  └── API server: tree and actions

It is installed as its own documentation says, with `manifests/argocd` on top; nothing of it is
imitated. People have no accounts: the API server answers whoever reaches it on the loopback.
"""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from devcluster.api import Cluster
from devcluster.finder import find_programs
from support.kube import Kube
from support.manifests import REPOSITORY, render
from support.operator_process import free_port
from support.redis_server import RedisServer
from support.waiting import wait_until

type Manifest = dict[str, Any]

NAMESPACE = "argocd"
_PART = {"app.kubernetes.io/part-of": "argocd"}  # Argo CD looks at no other ConfigMap or Secret

# What Argo CD's own installation has there, as far as it matters here: changes of a status are
# looked at only where they change the health.
_DEFAULTS = {"resource.customizations.ignoreResourceUpdates.all": "jsonPointers:\n- /status\n"}


@dataclass(slots=True)
class ArgoCD:
    cluster: Cluster
    kube: Kube
    folder: Path
    url: str = ""
    _redis: RedisServer | None = None
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._configure()
        (self.folder / "redis").mkdir()
        self._redis = RedisServer(self.folder / "redis")
        self._redis.start()
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            _end(process)
        if self._redis is not None:
            self._redis.stop()

    # -- installing -----------------------------------------------------------------------------

    def _configure(self) -> None:
        self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        base = [_object("ConfigMap", "argocd-cm", data=_DEFAULTS)]
        base += [_object("ConfigMap", "argocd-rbac-cm"), _object("Secret", "argocd-secret")]
        for manifest in self._kustomized(base):
            self.kube.apply(manifest)

    def _kustomized(self, base: Sequence[Manifest]) -> list[Manifest]:
        """With `manifests/argocd` as a component, as its documentation says."""
        folder = self.folder / "installation"
        folder.mkdir()
        (folder / "base.yaml").write_text(yaml.safe_dump_all(base))
        component = os.path.relpath(REPOSITORY / "manifests" / "argocd", folder)
        document = {"namespace": NAMESPACE, "resources": ["base.yaml"], "components": [component]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return render(self.cluster.kubectl, folder)

    # -- the processes --------------------------------------------------------------------------

    def _start_all(self) -> None:
        repositories, answering = free_port(), free_port()
        known = ("--redis", f"127.0.0.1:{self._redis.port}") if self._redis else ()
        asking = ("--repo-server", f"127.0.0.1:{repositories}", *known)
        self._start(
            "argocd-repo-server", *known, "--address", "127.0.0.1", "--port", str(repositories)
        )
        self._start(
            "argocd-server",
            *asking,
            *("--disable-auth", "--insecure"),
            *("--address", "127.0.0.1", "--port", str(answering)),
        )
        self.url = f"http://127.0.0.1:{answering}"
        wait_until(self._answers, timeout=180, what="Argo CD's API server answers")
        self._start("argocd-application-controller", *asking)

    def _start(self, name: str, *arguments: str) -> None:
        metrics = ("--metrics-port", str(free_port()))
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [find_programs(["argocd"])["argocd"], *arguments, *metrics, "--loglevel", "info"],
                env=self._environment(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _environment(self, name: str) -> dict[str, str]:
        for each in ("tls", "ssh", "tmp"):
            (self.folder / each).mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if "KUBERNETES" not in key}
        return kept | {
            "ARGOCD_BINARY_NAME": name,
            "ARGOCD_FAKE_IN_CLUSTER": "true",  # "in the cluster" is where KUBECONFIG leads
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_TLS_DATA_PATH": str(self.folder / "tls"),
            "ARGOCD_SSH_DATA_PATH": str(self.folder / "ssh"),
            "ARGOCD_ASK_PASS_SOCK": str(self.folder / "askpass"),
            "HOME": str(self.folder),
            "KUBECONFIG": str(self._kubeconfig()),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def _kubeconfig(self) -> Path:
        """The administrator's, in Argo CD's namespace: that is where its objects are."""
        path = self.folder / "kubeconfig"
        document = yaml.safe_load(self.cluster.kubeconfig.read_text())
        for context in document["contexts"]:
            context["context"]["namespace"] = NAMESPACE
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path

    def _answers(self) -> bool:
        self.check()
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def check(self) -> None:
        """Fails with the log of a process that has ended."""
        for name, process in self._processes.items():
            assert process.poll() is None, f"{name} has ended:\n{self.last_lines(name)}"

    def last_lines(self, name: str, count: int = 30) -> str:
        text = (self.folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(line[:400] for line in text.splitlines()[-count:])


def _object(kind: str, name: str, **more: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": _PART}, **more}


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)
