"""The operator as a process of its own: under its ServiceAccount, through a fault proxy."""

import os
import signal
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Self

import httpx
import yaml

from support.fault_proxy import FaultProxy
from support.installation import Installation, environment_of, write_secretly
from support.manifests import REPOSITORY
from support.processes import RunningProcess, ShiftedClock, start_command, start_fork
from support.waiting import wait_until

PREFIX = "MODELSERVER_OPERATOR_"
RUNTIME_IMAGE = "registry.example/modelserver-runtime@sha256:" + "1" * 64

# Shorter than in production, so that a test of succession need not wait for half a minute.
LEASE_TERMS = {
    "LEASE_DURATION_SECONDS": "3",
    "LEASE_RENEW_SECONDS": "2",
    "LEASE_RETRY_SECONDS": "0.5",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OperatorProcess:
    """One replica. `settings` are names of the configuration without prefix: NAMESPACES, ...

    `forked`: from an interpreter that has imported the operator, which is a second faster; only
    then can it have another `clock`.
    """

    def __init__(
        self,
        installation: Installation,
        proxy: FaultProxy,
        folder: Path,
        *,
        identity: str = "replica-a",
        settings: Mapping[str, str] | None = None,
        forked: bool = True,
        clock: ShiftedClock | None = None,
    ) -> None:
        self.installation = installation
        self.proxy = proxy
        self.identity = identity
        self.token = ""
        self.log_file = folder / f"{identity}.log"
        self._token_file = folder / f"{identity}.token"
        self._kubeconfig = folder / f"{identity}.kubeconfig"
        self._settings = dict(settings or {})
        self._process: RunningProcess | None = None
        assert forked or clock is None
        self._begin = partial(start_fork, clock=clock) if forked else start_command
        self.probe_url = ""
        self.metrics_url = ""

    # -- its life --------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> Self:
        """A fresh process, as a new pod would be; waits until it says that it is ready."""
        assert not self.is_running, f"{self.identity} runs already"
        self._write_access()
        probe, metrics = free_port(), free_port()
        self.probe_url = f"http://127.0.0.1:{probe}"
        self.metrics_url = f"http://127.0.0.1:{metrics}/metrics"
        environment = self._environment(probe, metrics)
        self._process = self._begin(self._arguments(), environment, self.log_file, REPOSITORY)
        if wait:
            self.wait_ready()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is None:
            return
        if kind is None and self.is_running:
            self.stop()
        else:
            self.kill()

    @property
    def process(self) -> RunningProcess:
        assert self._process is not None, f"{self.identity} was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, as the kubelet does; it must end by itself, with success, in time."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        assert code == 0, f"{self.identity} ended with {code}:\n{self.last_lines()}"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait_ready(self, timeout: float = 60) -> None:
        wait_until(self._is_ready, timeout=timeout, what=f"{self.identity} ready", interval=0.05)

    def _is_ready(self) -> bool:
        assert self.is_running, f"{self.identity} ended by itself:\n{self.last_lines()}"
        return self.probe("/readyz") == httpx.codes.OK

    def probe(self, path: str) -> int:
        """The status of a probe; 0 where nobody answers."""
        try:
            return httpx.get(f"{self.probe_url}{path}", timeout=2).status_code
        except httpx.TransportError:
            return 0

    # -- what it is given ------------------------------------------------------------------------

    def renew_token(self) -> str:
        """Puts a new token where the old one is, as the kubelet does; returns the old one."""
        old, self.token = self.token, self.installation.token()
        write_secretly(self._token_file, self.token)
        return old

    def _write_access(self) -> None:
        self.renew_token()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": self.proxy.url}}],
            "users": [{"name": "operator", "user": {"tokenFile": str(self._token_file)}}],
        }
        write_secretly(self._kubeconfig, yaml.safe_dump(document))

    def _arguments(self) -> list[str]:
        return list(self.installation.container.get("args", []))

    def _environment(self, probe: int, metrics: int) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
        given = environment_of(
            self.installation.container,
            namespace=self.installation.namespace,
            identity=self.identity,
        )
        own = {
            "RUNTIME_IMAGE": RUNTIME_IMAGE,
            "IDENTITY": self.identity,
            "NAMESPACE": self.installation.namespace,
            "PROBE_PORT": str(probe),
            "METRICS_PORT": str(metrics),
            **LEASE_TERMS,
            **self._settings,
        }
        prefixed = {f"{PREFIX}{name}": value for name, value in own.items()}
        paths = {"PYTHONPATH": str(REPOSITORY / "operator"), "KUBECONFIG": str(self._kubeconfig)}
        return kept | given | prefixed | paths

    # -- what it says ----------------------------------------------------------------------------

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def last_lines(self, count: int = 30) -> str:
        return "\n".join(self.log.splitlines()[-count:])

    def metrics(self) -> str:
        return httpx.get(self.metrics_url, timeout=5).text

    def resident_megabytes(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(f"no VmRSS of {self.pid}")
