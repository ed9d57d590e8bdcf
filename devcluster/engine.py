"""The container engine that builds images: the one that answers, or one of our own.

Our own is Debian's dockerd with every path in our folders, without a bridge and without a
single firewall rule (builds use the machine's network), and only while something is built. Its
layers stay in the cache.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from devcluster import process
from devcluster.cgroups import cgroup_name, ensure_cgroups, kill_members, remove_cgroups
from devcluster.command import install_debian_packages, run, succeeds
from devcluster.console import say
from devcluster.daemon import Daemon, start
from devcluster.errors import MissingToolError
from devcluster.kubeconfig import write_private
from devcluster.lock import locked
from devcluster.paths import ClusterFolder, cache_root, state_root
from devcluster.teardown import unmount_below

DRIVER = "overlay2"
_CLIENTS = ("docker", "/usr/bin/docker", "/usr/local/bin/docker")
_ANSWER_SECONDS = 10.0


def engine_folder() -> ClusterFolder:
    """Laid out as a cluster's folder; the underscore keeps it from being one."""
    return ClusterFolder(state_root() / "_engine")


def engine_data() -> Path:
    return cache_root() / "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A Docker engine that answers and the client that speaks its version of the API."""

    client: str
    is_ours: bool
    environment: dict[str, str] = field(default_factory=dict)

    def docker(self, *arguments: str | Path, stdin: str = "") -> str:
        return run([self.client, *arguments], environment=self.environment, stdin=stdin)

    def has_image(self, name: str) -> bool:
        argv = [self.client, "image", "inspect", name]
        return succeeds(argv, environment=self.environment)


@contextmanager
def an_engine() -> Iterator[Engine]:
    """An engine for the time of the block; ours is stopped afterwards."""
    found = answering_engine()
    if found is not None:
        yield found
        return
    with _own_engine() as engine:
        yield engine


def answering_engine() -> Engine | None:
    """The engine of this machine, if there is one that runs."""
    client = _answering({})
    if client is None:
        return None
    return Engine(client=client, is_ours=False, environment=_builder(client, {}))


def _answering(environment: dict[str, str]) -> str | None:
    """The first client that the engine answers: the newest refuse engines as old as Debian's."""
    for client in dict.fromkeys(_CLIENTS):
        if shutil.which(client) is None:
            continue
        argv = [client, "version", "--format", "{{.Server.Version}}"]
        if succeeds(argv, environment=environment, timeout_seconds=_ANSWER_SECONDS):
            return client
    return None


def _builder(client: str, environment: dict[str, str]) -> dict[str, str]:
    """Clients since 23 have BuildKit as a plug-in; without it they fall back only when told."""
    if succeeds([client, "buildx", "version"]):
        return environment | {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}  # images only, no provenance
    return environment | {"DOCKER_BUILDKIT": "0"}


@contextmanager
def _own_engine() -> Iterator[Engine]:
    folder = engine_folder()
    _check_machine()
    with locked(folder.root):
        environment = {"DOCKER_HOST": f"unix://{folder.run / 'docker.sock'}"}
        try:
            start("container engine (for building only)", folder, [_dockerd(folder, environment)])
            client = _answering(environment)
            if client is None:
                raise MissingToolError(f"no docker client among {_CLIENTS} can speak to dockerd")
            yield Engine(client=client, is_ours=True, environment=_builder(client, environment))
        finally:
            _stop(folder)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise MissingToolError(
            "no Docker engine answers (`docker version`), and starting one of our own needs root; "
            "start Docker, or run with sudo"
        )
    if shutil.which("dockerd") is None:
        install_debian_packages(["docker.io"], purpose="building images")


def _dockerd(folder: ClusterFolder, environment: dict[str, str]) -> Daemon:
    for path in (folder.run, folder.logs, folder.processes, engine_data()):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if process.running(folder, "dockerd") is None:
        (folder.run / "docker.pid").unlink(missing_ok=True)  # a killed engine's would stop ours
    ensure_cgroups(folder)
    write_private(folder.run / "daemon.json", "{}")  # instead of what /etc/docker says
    argv = [
        "dockerd",
        f"--config-file={folder.run / 'daemon.json'}",
        f"--host={environment['DOCKER_HOST']}",
        f"--data-root={engine_data()}",
        f"--exec-root={folder.run / 'docker'}",
        f"--pidfile={folder.run / 'docker.pid'}",
        f"--storage-driver={DRIVER}",
        f"--cgroup-parent=/{cgroup_name(folder)}",
        "--bridge=none",
        "--iptables=false",
        "--ip-forward=false",
        "--ip-masq=false",
    ]

    def problem() -> str:
        return "" if _answering(environment) else "it does not answer `docker version`"

    return Daemon(program="dockerd", argv=argv, problem=problem)


def stop_abandoned_engine() -> None:
    """End what a killed build left; an engine that builds just now is waited for."""
    folder = engine_folder()
    if folder.root.exists():
        with locked(folder.root):
            _stop(folder)


def _stop(folder: ClusterFolder) -> None:
    """dockerd ends its own containerd; what a crash left of it, the next dockerd takes over."""
    process.stop(folder, ["dockerd"])
    kill_members(folder)
    unmount_below(folder.root)
    unmount_below(engine_data())
    remove_cgroups(folder)
    log = folder.log("dockerd")
    if log.exists():
        log.replace(cache_root() / "dockerd.log")
    shutil.rmtree(folder.root)


def remove_image(engine: Engine, name: str) -> None:
    if not succeeds([engine.client, "rmi", name], environment=engine.environment):
        say(f"{name} is in use and stays in the engine")
