"""A real API server: up, again, crashed, beside another, down."""

import json
import signal
import subprocess
import sys
import time

import pytest

from devcluster import cluster as commands
from devcluster import process
from devcluster.api import Mode, api_cluster, down, existing, up
from devcluster.daemon import get
from devcluster.errors import ClusterStateError

pytestmark = pytest.mark.api
NAME, OTHER = "own-test", "own-test-2"


@pytest.fixture(scope="module")
def shared():
    with api_cluster(NAME) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """Up and whole, whatever the test before has done to it."""
    return up(shared.name, mode=Mode.API_ONLY)


def kubectl(cluster, *arguments, stdin=""):
    return subprocess.run(
        [cluster.kubectl, "--kubeconfig", cluster.kubeconfig, *arguments],
        input=stdin, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def pids(cluster):
    return {program.program: program.pid for program in commands.status(cluster.name).programs}


def wait_until_dead(cluster, program):
    deadline = time.monotonic() + 10
    while pids(cluster)[program] is not None:
        assert time.monotonic() < deadline


def test_it_answers_and_is_gone_afterwards():
    with api_cluster(OTHER) as cluster:
        assert kubectl(cluster, "get", "namespaces", "-o", "name").split()
        identities = [process.identity_of(pid) for pid in pids(cluster).values()]
        assert len(identities) == 2
    assert not any(map(process.is_alive, identities))
    assert not cluster.folder.root.exists()


def test_the_token_and_the_certificate_are_admins(cluster):
    status, body = get(
        f"{cluster.url}/api/v1/secrets", ca=cluster.ca_file, token=cluster.admin_token
    )
    assert status == 200
    assert json.loads(body)["kind"] == "SecretList"
    assert kubectl(cluster, "auth", "can-i", "*", "*").strip() == "yes"


def test_nobody_else_is_let_in(cluster):
    assert get(f"{cluster.url}/api/v1/secrets", ca=cluster.ca_file, token="wrong")[0] == 401
    assert get(f"{cluster.url}/api/v1/secrets", ca=cluster.ca_file)[0] == 403


def test_up_again_starts_nothing(cluster):
    before = pids(cluster)
    up(NAME, mode=Mode.API_ONLY)
    assert pids(cluster) == before


@pytest.mark.parametrize("victims", [("etcd",), ("kube-apiserver",), ("etcd", "kube-apiserver")])
def test_what_was_killed_is_started_again_with_its_data(cluster, victims):
    kept = f"kept-{'-'.join(victims)}"
    kubectl(cluster, "create", "namespace", kept)
    before = pids(cluster)
    for victim in victims:
        assert cluster.signal(victim, signal.SIGKILL)
        wait_until_dead(cluster, victim)
    up(NAME, mode=Mode.API_ONLY)
    after = pids(cluster)
    assert {program for program in before if before[program] != after[program]} == set(victims)
    assert f"namespace/{kept}" in kubectl(cluster, "get", "namespaces", "-o", "name")


def test_a_tool_killed_half_way_blocks_nothing():
    down(OTHER)
    command = [sys.executable, "-m", "devcluster", "up", "--api-only", "--name", OTHER]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tool:
        assert "starting the API" in tool.stderr.readline()
        tool.kill()
    try:
        assert pids(up(OTHER, mode=Mode.API_ONLY))
    finally:
        assert down(OTHER)
    assert not down(OTHER)


def test_writes_are_in_the_audit_log_with_their_user(cluster):
    kubectl(cluster, "create", "configmap", "mine", "-n", "default")
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    (write,) = [
        event for event in events
        if event["objectRef"]["resource"] == "configmaps" and event["objectRef"]["name"] == "mine"
    ]  # fmt: skip
    assert write["verb"] == "create"
    assert write["user"]["username"] == "admin"
    assert not [event for event in events if event["verb"] in {"get", "list", "watch"}
                and event["user"]["username"] == "admin"]  # fmt: skip


def test_a_service_account_has_only_what_its_role_gives(cluster):
    kubectl(cluster, "create", "serviceaccount", "reader", "-n", "default")
    token = kubectl(cluster, "create", "token", "reader", "-n", "default").strip()
    address = f"{cluster.url}/api/v1/namespaces/default/configmaps"
    assert get(address, ca=cluster.ca_file, token=token)[0] == 403
    kubectl(cluster, "create", "role", "r", "-n", "default", "--verb=list", "--resource=configmaps")
    kubectl(cluster, "create", "rolebinding", "r", "-n", "default", "--role=r",
            "--serviceaccount=default:reader")  # fmt: skip
    deadline = time.monotonic() + 10
    while get(address, ca=cluster.ca_file, token=token)[0] != 200:
        assert time.monotonic() < deadline, "the role binding did not take effect"


def test_controllers_collect_garbage():
    with api_cluster(OTHER, controllers=True) as cluster:
        kubectl(cluster, "create", "namespace", "going")
        kubectl(cluster, "delete", "namespace", "going", "--timeout=30s")
        names = kubectl(cluster, "get", "namespaces", "-o", "name")
    assert "namespace/going" not in names


def test_two_clusters_live_beside_each_other(cluster):
    with api_cluster(OTHER) as other:
        kubectl(other, "create", "namespace", "only-here")
        assert "only-here" not in kubectl(cluster, "get", "namespaces")
    assert kubectl(cluster, "get", "namespaces")


def test_another_mode_is_refused(cluster):
    with pytest.raises(ClusterStateError, match="node was asked for"):
        commands._up(cluster.folder, Mode.NODE, controllers=False)


def test_status_names_what_died(cluster):
    cluster.signal("etcd", signal.SIGKILL)
    wait_until_dead(cluster, "etcd")
    status = commands.status(NAME)
    assert [program.program for program in status.programs if program.pid is None] == ["etcd"]
    assert existing(NAME).record == cluster.record
