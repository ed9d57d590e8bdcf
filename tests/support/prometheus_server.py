"""A real Prometheus, configured as the documents say, that scrapes the pods of a stage.

The only way to Prometheus in the tests: the program is Debian's `prometheus`.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from devcluster.command import need_tools
from devcluster.lock import locked
from support.kube import Kube
from support.played_traffic import PROXY_PATH
from support.repeated import Repeated
from support.waiting import wait_until

_PROGRAM = "prometheus"
_INSTALLING = Path(tempfile.gettempdir()) / "modelserver-tests-prometheus"
_DOCUMENT = Path(__file__).parents[2] / "docs" / "statistics.md"
_SCRAPED_EVERY = "1s"

type Config = dict[str, Any]


def _program() -> str:
    """Where it is; installed first where it is missing, by one test process at a time."""
    with locked(_INSTALLING):
        need_tools({_PROGRAM: _PROGRAM}, purpose="the tests of metric sources")
    return shutil.which(_PROGRAM) or _PROGRAM


def documented_config() -> Config:
    """The block of YAML that users are told to copy."""
    text = _DOCUMENT.read_text()
    [block] = [one for one in text.split("```") if one.startswith("yaml\nscrape_configs:")]
    return yaml.safe_load(block.removeprefix("yaml\n"))


def _config(targets: Path) -> Config:
    """As documented but for who finds the pods; and the same pods as their proxies see them.

    Debian's program has no discovery by way of Kubernetes.
    """
    config = documented_config()
    [job] = config["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "1s"}]
    job["scrape_interval"] = job["scrape_timeout"] = _SCRAPED_EVERY
    of_proxies = job | {"job_name": "mesh", "metrics_path": PROXY_PATH}
    return {"scrape_configs": [job, of_proxies]}


class Discovery(Repeated):
    """Plays `role: pod`: a target for each port of each container, with the same labels."""

    name = "discovery"
    look_seconds = 0.2

    def __init__(self, kube: Kube, file: Path) -> None:
        super().__init__()
        self._kube = kube
        self._file = file

    def look(self) -> None:
        found = [one for pod in self._kube.items("/api/v1/pods") for one in _targets(pod)]
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(json.dumps(found))
        unfinished.replace(self._file)


def _targets(pod: Config) -> Iterator[Config]:
    address = pod.get("status", {}).get("podIP")
    metadata = pod["metadata"]
    known = {"namespace": metadata["namespace"], "pod_name": metadata["name"]}
    for label in metadata.get("labels", {}):
        known["pod_labelpresent_" + re.sub(r"[^a-zA-Z0-9_]", "_", label)] = "true"
    for container in pod["spec"]["containers"] if address else ():
        for port in container.get("ports", ()):
            told = known | {"pod_container_name": container["name"]}
            told["pod_container_port_name"] = port["name"]
            labels = {f"__meta_kubernetes_{name}": value for name, value in told.items()}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": labels}


class PrometheusServer:
    """`url` stays the same through `kill` and `start`, and so do its series.

    `host` is an address of this machine; pods reach none of those on loopback.
    """

    def __init__(self, folder: Path, targets: Path, *, host: str = "127.0.0.1") -> None:
        self._binary = _program()
        self._folder = folder
        self._host = host
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(targets)))
        with socket.create_server((host, 0)) as free:
            self._port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def start(self) -> None:
        assert self._process is None, "it runs already"
        with (self._folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._binary,
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={self._host}:{self._port}",
                    "--log.level=warn",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, timeout=120, what="Prometheus answers", interval=0.1)

    def kill(self) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)
        self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        log = (self._folder / "prometheus.log").read_text(errors="replace")
        assert self._process.poll() is None, f"Prometheus has ended: {log[-2000:]}"
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False
