"""Ports, address ranges and names of clusters that live beside each other."""

import itertools
import socket
from ipaddress import IPv4Network

import pytest

from devcluster import ports, record
from devcluster.errors import ClusterStateError
from devcluster.paths import cluster_folder, existing_clusters
from devcluster.record import Mode, Networks, ensure_record, load_record


@pytest.fixture(autouse=True)
def home(short_path, monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_HOME", str(short_path))
    return short_path


def decide(name, mode=Mode.API_ONLY, *, controllers=False, routes=(), running=()):
    return ensure_record(
        cluster_folder(name),
        mode=mode,
        controllers=controllers,
        routes=routes,
        is_running=lambda program: program in running,
    )


def test_a_decision_is_kept():
    first = decide("one")
    assert decide("one") == first == load_record(cluster_folder("one"))


def test_clusters_share_no_port():
    used = [port for name in ("one", "two", "three") for port in decide(name).ports.values()]
    assert len(used) == len(set(used))


def test_clusters_with_a_node_share_no_address():
    numbers = [decide(name, Mode.NODE).number for name in ("one", "two", "three")]
    ranges = [Networks.numbered(number) for number in numbers]
    for one, other in itertools.combinations(ranges, 2):
        assert not any(one.overlaps(net) for net in (other.link, other.pods, other.services))


def test_the_ranges_of_all_numbers_are_disjoint():
    ranges = [Networks.numbered(number) for number in range(16)]
    for one, other in itertools.combinations(ranges, 2):
        assert not any(one.overlaps(net) for net in (other.link, other.pods, other.services))


def test_a_range_that_the_machine_routes_is_left_out():
    routes = [IPv4Network("10.200.0.0/30"), IPv4Network("10.244.1.0/24")]
    assert decide("one", Mode.NODE, routes=routes).number == 2


def test_no_range_left_is_an_error():
    with pytest.raises(ClusterStateError, match="no address range is left"):
        decide("one", Mode.NODE, routes=[IPv4Network("10.244.0.0/16")])


def test_wide_and_foreign_routes_do_not_count():
    kept = record.routes_of(["10.0.0.0/8", "192.168.1.0/24", "fd00::/64", "10.244.3.0/24"])
    assert kept == [IPv4Network("192.168.1.0/24"), IPv4Network("10.244.3.0/24")]


def test_a_port_that_a_stranger_took_moves_while_the_program_is_down():
    first = decide("one")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", first.ports["etcd"]))
        stranger.listen()
        second = decide("one")
    assert second.ports["etcd"] != first.ports["etcd"]
    assert {**second.ports, "etcd": 0} == {**first.ports, "etcd": 0}


def test_a_port_that_our_own_program_has_stays():
    first = decide("one")
    with socket.socket() as own:
        own.bind(("127.0.0.1", first.ports["etcd"]))
        own.listen()
        assert decide("one", running=("etcd",)) == first


def test_another_mode_is_refused_with_what_to_do():
    decide("one")
    with pytest.raises(ClusterStateError, match=r"is api-only, but node was asked for; .* down"):
        decide("one", Mode.NODE)


def test_controllers_may_be_added_later_and_stay():
    assert not decide("one").controllers
    assert decide("one", controllers=True).controllers
    assert decide("one").controllers


def test_a_damaged_record_says_how_to_go_on():
    folder = cluster_folder("one")
    folder.root.mkdir()
    folder.record.write_text('{"mode": ')
    with pytest.raises(ClusterStateError, match=r"cannot be read .* down --name one"):
        load_record(folder)


def test_another_clusters_damaged_record_does_not_matter(home):
    (home / "broken").mkdir()
    (home / "broken" / "cluster.json").write_text("no json")
    assert decide("one").ports


def test_ports_are_searched_past_those_in_use():
    with socket.socket() as stranger:
        first = ports.choose_ports("x", ["a"], host="127.0.0.1", taken=())["a"]
        stranger.bind(("127.0.0.1", first))
        stranger.listen()
        second = ports.choose_ports("x", ["a", "b"], host="127.0.0.1", taken=())
    assert first not in second.values()
    assert len(set(second.values())) == 2


@pytest.mark.parametrize("name", ["", "Dev", "1a", "a_b", "a" * 21, "../x", "a/b", "_engine"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(ClusterStateError, match="the cluster name is"):
        cluster_folder(name)


def test_a_folder_too_deep_for_sockets_is_refused(monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_HOME", "/" + "x" * 100)
    with pytest.raises(ClusterStateError, match="set DEVCLUSTER_HOME to a shorter folder"):
        cluster_folder("dev")


def test_our_own_files_in_the_home_are_no_clusters(home):
    (home / "_engine").mkdir()
    decide("one")
    assert [folder.name for folder in existing_clusters()] == ["one"]
