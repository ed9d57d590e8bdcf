"""Brings a cluster up, looks at it and takes it down again; every step may be repeated."""

import http
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import catalog, finder, node_up, process
from devcluster.certificates import Certificates, make_certificates
from devcluster.console import step
from devcluster.control_plane import (
    ADMIN,
    CONTROLLER_MANAGER,
    SCHEDULER,
    api_daemons,
    audit_policy,
    controller_daemons,
    subjects,
    token_file,
)
from devcluster.daemon import get, start
from devcluster.errors import ClusterStateError
from devcluster.kubeconfig import write_kubeconfigs, write_private
from devcluster.lock import locked
from devcluster.network import machine_routes
from devcluster.paths import ClusterFolder, cluster_folder
from devcluster.record import ClusterRecord, Mode, ensure_record, load_record
from devcluster.teardown import forget_last_boot, recorded_programs, remove_cluster


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is up, as tests and people use it."""

    folder: ClusterFolder
    record: ClusterRecord

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def kubeconfig(self) -> Path:
        """For the user `admin`, who may do everything."""
        return self.folder.kubeconfig

    @property
    def url(self) -> str:
        return self.record.server

    @property
    def admin_token(self) -> str:
        return self.folder.admin_token.read_text().strip()

    @property
    def ca_file(self) -> Path:
        return self.folder.certificates / "ca.crt"

    @property
    def audit_log(self) -> Path:
        """An audit.k8s.io/v1 Event per line: all writes, and what ServiceAccounts read."""
        return self.folder.audit_log

    def signal(self, program: str, number: signal.Signals) -> bool:
        """For tests of failures; False when the program does not run. `up` starts it again."""
        return process.signal_program(self.folder, program, number)

    @property
    def kubectl(self) -> Path:
        return finder.cached_program("kubectl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """One program of a cluster; `pid` is None when it does not run."""

    program: str
    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """What `status` shows; `problem` is empty when the API server is ready."""

    name: str
    mode: Mode
    server: str
    problem: str
    programs: tuple[ProgramStatus, ...]


def up(name: str, *, mode: Mode, controllers: bool = False) -> Cluster:
    """Start what is not there yet and wait until all of it is ready."""
    folder = cluster_folder(name)
    if mode is Mode.NODE:
        node_up.check_machine()
    with locked(folder.root):
        return _up(folder, mode, controllers=controllers)


def _up(folder: ClusterFolder, mode: Mode, *, controllers: bool) -> Cluster:
    forget_last_boot(folder)
    record = ensure_record(
        folder,
        mode=mode,
        controllers=controllers,
        routes=machine_routes() if mode is Mode.NODE else (),
        is_running=lambda program: process.running(folder, program) is not None,
    )
    programs = finder.find_programs(needed_programs(record))
    token = _write_files(folder, record)
    if mode is Mode.NODE:
        node_up.prepare(folder, record, programs)
    start("API", folder, api_daemons(folder, record, programs, token))
    start("controllers", folder, controller_daemons(folder, record, programs))
    if mode is Mode.NODE:
        node_up.start_node(folder, record, programs, token)
    return Cluster(folder, record)


def needed_programs(record: ClusterRecord) -> tuple[str, ...]:
    if record.mode is Mode.NODE:
        return catalog.ALL_PROGRAMS
    controllers = (catalog.CONTROLLER_PROGRAM,) if record.controllers else ()
    return (*catalog.API_ONLY_PROGRAMS, *controllers)


def _write_files(folder: ClusterFolder, record: ClusterRecord) -> str:
    """Write all files of the control plane; return the admin's token."""
    for path in (folder.config, folder.logs, folder.processes, folder.run):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.etcd.mkdir(exist_ok=True, mode=0o700)
    make_certificates(folder.certificates, subjects(record))
    if not folder.admin_token.exists():
        write_private(folder.admin_token, secrets.token_urlsafe(32))
    token = folder.admin_token.read_text().strip()
    write_private(folder.config / "tokens.csv", token_file(token))
    write_private(folder.config / "audit-policy.yaml", audit_policy())
    clients = {ADMIN: folder.kubeconfig} | {
        user: folder.config / f"{user}.kubeconfig" for user in (CONTROLLER_MANAGER, SCHEDULER)
    }
    write_kubeconfigs(Certificates(folder.certificates), record.server, folder.name, clients)
    return token


def down(name: str) -> bool:
    """End every program of the cluster and remove its folder; return whether there was one."""
    folder = cluster_folder(name)
    if not folder.root.exists():
        return False
    with locked(folder.root), step(f"taking the cluster {name} down"):
        remove_cluster(folder)
    return True


def existing(name: str) -> Cluster:
    """The cluster by that name, running or not."""
    folder = cluster_folder(name)
    record = load_record(folder)
    if record is None:
        raise ClusterStateError(
            f"there is no cluster {name}; bring it up: python -m devcluster up --name {name}"
        )
    return Cluster(folder, record)


def status(name: str) -> ClusterStatus:
    cluster = existing(name)
    return ClusterStatus(
        name=name,
        mode=cluster.record.mode,
        server=cluster.url,
        problem=_problem(cluster),
        programs=tuple(
            _program_status(cluster.folder, name) for name in recorded_programs(cluster.folder)
        ),
    )


def _program_status(folder: ClusterFolder, program: str) -> ProgramStatus:
    identity = process.running(folder, program)
    return ProgramStatus(program=program, pid=identity.pid if identity else None)


def _problem(cluster: Cluster) -> str:
    if process.running(cluster.folder, "kube-apiserver") is None:
        return "the API server does not run"  # without its link we would ask somebody outside
    try:
        answer, body = get(f"{cluster.url}/readyz", ca=cluster.ca_file, token=cluster.admin_token)
    except OSError as e:
        return f"the API server does not answer: {e}"
    if answer == http.HTTPStatus.OK:
        return ""
    failed = [line for line in body.decode(errors="replace").splitlines() if line[:3] == "[-]"]
    return f"the API server is not ready ({answer}): {'; '.join(failed)}"


@contextmanager
def temporary(name: str, *, controllers: bool = False) -> Iterator[Cluster]:
    """A fresh API-only cluster that is gone afterwards, whatever was there before."""
    down(name)
    try:
        yield up(name, mode=Mode.API_ONLY, controllers=controllers)
    finally:
        down(name)
