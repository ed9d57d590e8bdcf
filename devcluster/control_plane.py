"""The control plane: which certificates it needs and how each of its programs is started."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from devcluster.certificates import Certificates, Subject
from devcluster.daemon import Daemon, HttpProbe
from devcluster.paths import ClusterFolder
from devcluster.record import LOOPBACK, ClusterRecord, Mode

ADMIN = "admin"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
_NOT_ROUTED = "192.0.2.1"  # RFC 5737: an address of nobody, where the API server has no network
_AUDITED_VERBS = ["create", "update", "patch", "delete", "deletecollection"]


def subjects(record: ClusterRecord) -> tuple[Subject, ...]:
    first_service = record.service_range.split("/", maxsplit=1)[0].rsplit(".", 1)[0] + ".1"
    names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
    addresses = dict.fromkeys((LOOPBACK, record.api_host, first_service))
    serving = [*(f"DNS:{name}" for name in names), "DNS:kubernetes.default.svc.cluster.local"]
    serving += [f"IP:{address}" for address in addresses]
    return (
        Subject(name=ADMIN, user="admin", group="system:masters"),
        Subject(name="kube-apiserver", user="kube-apiserver", alternatives=tuple(serving)),
        Subject(
            name="kubelet-client", user="kube-apiserver-kubelet-client", group="system:masters"
        ),
        Subject(name="front-proxy", user="front-proxy"),
        Subject(name=CONTROLLER_MANAGER, user=f"system:{CONTROLLER_MANAGER}"),
        Subject(name=SCHEDULER, user=f"system:{SCHEDULER}"),
    )


def audit_policy() -> str:
    """Each answered write, and what ServiceAccounts (not the control plane's) read: for tests."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "verbs": _AUDITED_VERBS},
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {"level": "None"},
        ],
    }
    return yaml.safe_dump(policy, sort_keys=False)


def token_file(admin_token: str) -> str:
    return f'{admin_token},admin-token,admin-token,"system:masters"\n'


def api_daemons(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path], admin_token: str
) -> list[Daemon]:
    return [
        _etcd(folder, record, programs["etcd"]),
        _api_server(folder, record, programs["kube-apiserver"], admin_token),
    ]


def controller_daemons(
    folder: ClusterFolder, record: ClusterRecord, programs: Mapping[str, Path]
) -> list[Daemon]:
    """They end themselves unless the API server is ready when they start."""
    daemons = []
    if record.controllers:
        daemons.append(_controller_manager(folder, record, programs[CONTROLLER_MANAGER]))
    if record.mode is Mode.NODE:
        daemons.append(_scheduler(folder, record, programs[SCHEDULER]))
    return daemons


def _etcd(folder: ClusterFolder, record: ClusterRecord, program: Path) -> Daemon:
    client = f"http://{LOOPBACK}:{record.ports['etcd']}"
    peer = f"http://{LOOPBACK}:{record.ports['etcd-peer']}"
    argv: list[str | Path] = [
        program,
        "--name=dev",
        f"--data-dir={folder.etcd}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=dev={peer}",
        "--unsafe-no-fsync",  # a lost development cluster is made again; tests want the speed
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    ]
    return Daemon(program="etcd", argv=argv, problem=HttpProbe(address=f"{client}/readyz"))


def _api_server(
    folder: ClusterFolder, record: ClusterRecord, program: Path, admin_token: str
) -> Daemon:
    certificates = Certificates(folder.certificates)
    argv: list[str | Path] = [
        program,
        f"--etcd-servers=http://{LOOPBACK}:{record.ports['etcd']}",
        f"--bind-address={record.api_host}",
        f"--secure-port={record.ports['kube-apiserver']}",
        *_endpoint(record),
        f"--service-cluster-ip-range={record.service_range}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        *_identity_flags(folder, certificates),
        *_aggregation_flags(certificates),
        f"--audit-policy-file={folder.config / 'audit-policy.yaml'}",
        f"--audit-log-path={folder.audit_log}",
        "--audit-log-maxsize=1000",
        "--audit-log-maxbackup=2",
        "--kubelet-preferred-address-types=InternalIP",
    ]
    probe = HttpProbe(address=f"{record.server}/readyz", ca=certificates.ca, token=admin_token)
    return Daemon(program="kube-apiserver", argv=argv, problem=probe, ready_seconds=120)


def _endpoint(record: ClusterRecord) -> tuple[str, ...]:
    """What the Service `kubernetes` leads to; without a node nobody asks."""
    if record.mode is Mode.NODE:
        return (f"--advertise-address={record.api_host}",)
    return (f"--advertise-address={_NOT_ROUTED}", "--endpoint-reconciler-type=none")


def _identity_flags(folder: ClusterFolder, certificates: Certificates) -> tuple[str, ...]:
    return (
        f"--tls-cert-file={certificates.certificate('kube-apiserver')}",
        f"--tls-private-key-file={certificates.key('kube-apiserver')}",
        f"--client-ca-file={certificates.ca}",
        f"--token-auth-file={folder.config / 'tokens.csv'}",
        f"--kubelet-client-certificate={certificates.certificate('kubelet-client')}",
        f"--kubelet-client-key={certificates.key('kubelet-client')}",
        f"--kubelet-certificate-authority={certificates.ca}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={certificates.service_account_public_key}",
        f"--service-account-signing-key-file={certificates.service_account_key}",
    )


def _aggregation_flags(certificates: Certificates) -> tuple[str, ...]:
    """Without these an aggregated API (metrics-server, KEDA) answers 403 to everybody."""
    return (
        f"--requestheader-client-ca-file={certificates.ca}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificates.certificate('front-proxy')}",
        f"--proxy-client-key-file={certificates.key('front-proxy')}",
        "--enable-aggregator-routing=true",
    )


def _controller_manager(folder: ClusterFolder, record: ClusterRecord, program: Path) -> Daemon:
    certificates = Certificates(folder.certificates)
    argv: list[str | Path] = [
        *_client(folder, record, program, CONTROLLER_MANAGER),
        f"--root-ca-file={certificates.ca}",
        f"--service-account-private-key-file={certificates.service_account_key}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={certificates.ca}",
        f"--cluster-signing-key-file={certificates.key('ca')}",
        "--kube-api-qps=200",  # the default of 20 makes tests wait for the controllers
        "--kube-api-burst=400",
        "--allocate-node-cidrs=false",
        "--node-monitor-grace-period=50s",
    ]
    return _with_health(CONTROLLER_MANAGER, argv, record)


def _scheduler(folder: ClusterFolder, record: ClusterRecord, program: Path) -> Daemon:
    return _with_health(SCHEDULER, _client(folder, record, program, SCHEDULER), record)


def _client(
    folder: ClusterFolder, record: ClusterRecord, program: Path, name: str
) -> list[str | Path]:
    kubeconfig = folder.config / f"{name}.kubeconfig"
    return [
        program,
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={record.ports[name]}",
        "--leader-elect=false",
    ]


def _with_health(name: str, argv: list[str | Path], record: ClusterRecord) -> Daemon:
    probe = HttpProbe(address=f"https://{LOOPBACK}:{record.ports[name]}/healthz")
    return Daemon(program=name, argv=argv, problem=probe)
