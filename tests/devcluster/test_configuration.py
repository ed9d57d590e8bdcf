"""What the cluster's programs are told: flags, files, certificates, manifests."""

import json
import ssl
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from devcluster import addons, control_plane, network, node
from devcluster.catalog import ALL_PROGRAMS
from devcluster.certificates import Subject, make_certificates
from devcluster.kubeconfig import make_kubeconfig, write_private
from devcluster.paths import ClusterFolder
from devcluster.record import PURPOSES, ClusterRecord, Mode

PROGRAMS = {name: Path("/programs") / name for name in ALL_PROGRAMS}


@pytest.fixture
def folder(short_path):
    return ClusterFolder(short_path / "dev")


def a_record(mode=Mode.NODE, *, controllers=True, number=0):
    ports = {purpose: 20000 + index for index, purpose in enumerate(PURPOSES)}
    return ClusterRecord(mode=mode, controllers=controllers, ports=ports, number=number)


def flags_of(daemon):
    pairs = (str(argument).lstrip("-").partition("=") for argument in daemon.argv[1:])
    return {name: value for name, _, value in pairs}


def api_server_flags(folder, record):
    return flags_of(control_plane.api_daemons(folder, record, PROGRAMS, "token")[1])


@pytest.mark.parametrize("mode", list(Mode))
def test_the_api_server_authorizes_and_audits(folder, mode):
    flags = api_server_flags(folder, a_record(mode))
    assert flags["authorization-mode"] == "Node,RBAC"
    assert flags["audit-log-path"] == str(folder.audit_log)
    assert flags["requestheader-client-ca-file"] == flags["client-ca-file"]


def test_without_a_node_everything_listens_on_loopback(folder):
    record = a_record(Mode.API_ONLY)
    daemons = control_plane.api_daemons(folder, record, PROGRAMS, "token")
    daemons += control_plane.controller_daemons(folder, record, PROGRAMS)
    addresses = [
        value for daemon in daemons for name, value in flags_of(daemon).items()
        if name == "bind-address" or name.startswith("listen-")
    ]  # fmt: skip
    assert len(addresses) == 4
    assert all("127.0.0.1" in address for address in addresses)


def test_with_a_node_the_api_server_listens_on_the_clusters_own_link(folder):
    assert api_server_flags(folder, a_record(number=3))["bind-address"] == "10.200.3.1"


@pytest.mark.parametrize(
    ("mode", "controllers", "expected"),
    [
        (Mode.API_ONLY, False, []),
        (Mode.API_ONLY, True, ["kube-controller-manager"]),
        (Mode.NODE, True, ["kube-controller-manager", "kube-scheduler"]),
    ],
)
def test_controllers_start_where_they_are_wanted(folder, mode, controllers, expected):
    record = a_record(mode, controllers=controllers)
    daemons = control_plane.controller_daemons(folder, record, PROGRAMS)
    assert [daemon.program for daemon in daemons] == expected


def test_every_write_is_audited_once_and_reads_of_installed_programs_too():
    policy = yaml.safe_load(control_plane.audit_policy())
    writes, *_, reads, rest = policy["rules"]
    assert writes["level"] == "Metadata"
    assert set(writes["verbs"]) == {"create", "update", "patch", "delete", "deletecollection"}
    assert reads == {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}
    assert rest == {"level": "None"}
    assert policy["omitStages"] == ["RequestReceived"]


def test_two_nodes_share_no_path_or_address(short_path):
    texts = []
    for number, name in enumerate(("one", "two")):
        folder, record = ClusterFolder(short_path / name), a_record(number=number)
        texts.append(
            node.containerd_config(folder, PROGRAMS, pause_image="pause")
            + node.cni_config(folder, record)
            + node.kubelet_config(folder, record)
            + node.kube_proxy_config(folder, record)
        )
    for text, other in zip(texts, ("two", "one"), strict=True):
        assert f"{short_path}/{other}" not in text
    assert "10.244.1." not in texts[0]
    assert "10.244.0." not in texts[1]


def test_containerds_configuration_is_toml_with_our_paths(folder):
    config = tomllib.loads(
        node.containerd_config(folder, PROGRAMS, pause_image="localhost/pause:1")
    )
    assert config["root"].startswith(str(folder.node))
    assert config["state"].startswith(str(folder.run))
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/programs/runc"
    images = config["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"]["sandbox"] == "localhost/pause:1"


def test_the_kubelet_authenticates_and_keeps_to_its_own_control_groups(folder):
    config = yaml.safe_load(node.kubelet_config(folder, a_record(number=2)))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["cgroupRoot"] == "/devcluster-dev"
    assert config["clusterDNS"] == ["10.96.32.10"]


def test_pods_get_addresses_of_their_own_cluster(folder):
    bridge = json.loads(node.cni_config(folder, a_record(number=5)))["plugins"][0]
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.5.0/24"}]]


@pytest.mark.parametrize(
    ("resolver", "kept"),
    [
        ("nameserver 10.0.0.2\n", "nameserver 10.0.0.2\n"),
        ("nameserver 127.0.0.53\noptions edns0\n", "options edns0\n"),
        ("nameserver ::1\nnameserver 10.127.0.1\n", "nameserver 10.127.0.1\n"),
        ("# comment\n\nsearch a b\n", "# comment\n\nsearch a b\n"),
        ("", ""),
    ],
)
def test_a_name_server_on_loopback_is_left_out(resolver, kept):
    assert network.without_loopback(resolver) == kept


def test_coredns_forwards_only_where_there_is_somebody_to_ask():
    assert "forward ." in addons.corefile("nameserver 10.0.0.2\n")
    assert "forward ." not in addons.corefile("search example\n")


def test_the_volumes_are_of_the_default_class(folder):
    storage_class, *volumes = addons.storage_manifests(folder)
    annotations = storage_class["metadata"]["annotations"]
    assert annotations == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert {volume["spec"]["storageClassName"] for volume in volumes} == {"standard"}
    paths = {volume["spec"]["hostPath"]["path"] for volume in volumes}
    assert len(paths) == len(volumes) >= 8


@pytest.mark.parametrize(
    ("status", "condition", "reason"),
    [
        (200, {"type": "Ready", "status": "True"}, ""),
        (200, {"type": "Ready", "status": "False", "message": "no CNI"}, "not Ready: no CNI"),
        (200, {"type": "MemoryPressure", "status": "False"}, "has no condition Ready"),
        (404, {"type": "Ready", "status": "True"}, "has not registered itself"),
    ],
)
def test_why_a_node_is_not_ready(status, condition, reason):
    body = json.dumps({"status": {"conditions": [condition]}}).encode()
    assert reason in node.not_ready_reason(status, body)
    assert bool(node.not_ready_reason(status, body)) is bool(reason)


@pytest.mark.parametrize(("heartbeat", "is_ready"), [("11:59:59", False), ("12:00:00", True)])
def test_what_an_earlier_kubelet_reported_does_not_count(heartbeat, is_ready):
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": f"2026-01-01T{heartbeat}Z"}
    body = json.dumps({"status": {"conditions": [condition]}}).encode()
    since = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert (node.not_ready_reason(200, body, since=since) == "") is is_ready


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    subjects = (
        Subject(name="admin", user="admin", group="system:masters"),
        Subject(name="server", user="server", alternatives=("DNS:localhost", "IP:127.0.0.1")),
    )
    return make_certificates(tmp_path_factory.mktemp("certificates"), subjects)


def test_certificates_are_signed_by_the_clusters_authority(certificates):
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
    (authority,) = context.get_ca_certs()
    assert authority["subject"] == ((("commonName", "devcluster"),),)


def test_keys_are_readable_by_their_owner_only(certificates):
    assert certificates.key("admin").stat().st_mode & 0o077 == 0


def test_certificates_are_made_once(certificates):
    before = certificates.ca.read_bytes()
    again = make_certificates(certificates.folder, ())
    assert again.ca.read_bytes() == before


def test_a_kubeconfig_needs_no_other_file(certificates):
    config = make_kubeconfig(
        certificates, cluster="dev", server="https://127.0.0.1:1", subject="admin"
    )
    assert str(certificates.folder) not in json.dumps(config)
    assert config["current-context"] == config["contexts"][0]["name"] == "devcluster-dev"


def test_a_private_file_is_private_and_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
