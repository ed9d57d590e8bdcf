"""Where programs come from, and which of them count as the right ones."""

import stat

import pytest

from devcluster import builder, catalog, download, finder
from devcluster.errors import ProgramUnavailableError
from devcluster.paths import PROGRAMS

DIGEST = "ab" * 32


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVCLUSTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEVCLUSTER_OFFLINE", "1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def install(folder, name, output):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_every_family_has_its_pinned_modules():
    for family in catalog.FAMILIES.values():
        assert builder.required_go(PROGRAMS / family.name / "go.mod")


def test_the_catalogue_and_the_modules_name_the_same_versions():
    modules = {
        catalog.FamilyName.KUBERNETES: f"k8s.io/kubernetes {catalog.KUBERNETES}",
        catalog.FamilyName.ETCD: f"go.etcd.io/etcd/server/v3 {catalog.ETCD}",
        catalog.FamilyName.CONTAINERD: f"github.com/containerd/containerd/v2 {catalog.CONTAINERD}",
        catalog.FamilyName.RUNC: f"github.com/opencontainers/runc {catalog.RUNC}",
        catalog.FamilyName.COREDNS: f"github.com/coredns/coredns {catalog.COREDNS}",
        catalog.FamilyName.CNI: f"github.com/containernetworking/plugins {catalog.CNI}",
        catalog.FamilyName.ARGOCD: f"github.com/argoproj/argo-cd/v3 {catalog.ARGOCD}",
        catalog.FamilyName.ENVOY_GATEWAY: f"github.com/envoyproxy/gateway {catalog.ENVOY_GATEWAY}",
        catalog.FamilyName.KEDA: f"github.com/kedacore/keda/v2 {catalog.KEDA}",
        catalog.FamilyName.METRICS_SERVER: f"sigs.k8s.io/metrics-server {catalog.METRICS_SERVER}",
    }
    for name, line in modules.items():
        assert line in (PROGRAMS / name / "go.mod").read_text()


def test_what_only_tests_run_is_not_built_for_a_cluster():
    beside = {"argocd", "envoy-gateway", "keda-operator", "keda-adapter", "metrics-server"}
    assert beside <= set(catalog.KNOWN_PROGRAMS)
    assert not beside & set(catalog.ALL_PROGRAMS)
    assert set(catalog.API_ONLY_PROGRAMS) <= set(catalog.ALL_PROGRAMS)


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("keda", ("keda-operator", "keda-adapter", "keda-admission-webhooks")),
        ("metrics-server", ("metrics-server",)),
        ("etcd", ("etcd",)),
        ("kubectl", ("kubectl",)),
        ("nginx", ("nginx",)),
    ],
)
def test_a_family_stands_for_its_programs(name, programs):
    assert catalog.programs_of(name) == programs


@pytest.mark.parametrize(
    ("output", "version", "right"),
    [
        ("Kubernetes v1.36.3", "v1.36.3", True),
        ("Kubernetes v1.36.30", "v1.36.3", False),
        ("Kubernetes v11.36.3", "v1.36.3", False),
        ("etcd Version: 3.7.3\nGit SHA: 1.2", "v3.7.3", True),
        ("CoreDNS-1.15.0\nlinux/amd64", "v1.15.0", True),
        ("containerd github.com/containerd/containerd 1.6.20~ds1", "v2.4.2", False),
        ("v1.36.3.1", "v1.36.3", False),
        ("", "v1.36.3", False),
    ],
)
def test_only_the_whole_version_counts(output, version, right):
    assert finder.is_right_version(output, version) is right


def test_a_program_on_path_is_taken_if_its_version_is_right(cache):
    found = install(cache, "etcd", f"etcd Version: {catalog.ETCD.removeprefix('v')}")
    assert finder.find_programs(["etcd"])["etcd"].resolve() == found


def test_a_cached_program_wins_over_path(cache):
    cached = finder.cached_program("etcd")
    cached.parent.mkdir(parents=True)
    cached.write_text("cached")
    install(cache, "etcd", f"etcd Version: {catalog.ETCD.removeprefix('v')}")
    assert finder.find_programs(["etcd"])["etcd"].read_text() == "cached"


def test_a_program_of_another_version_is_not_taken_but_built(cache, monkeypatch):
    install(cache, "etcd", "etcd Version: 3.4.0")
    monkeypatch.setattr(
        builder, "build", lambda _family, _program, target: target.write_text("built")
    )
    assert finder.find_programs(["etcd"])["etcd"].read_text() == "built"


def test_a_link_to_an_uninstalled_program_is_replaced(cache):
    cached = finder.cached_program("etcd")
    cached.parent.mkdir(parents=True)
    cached.symlink_to(cache / "gone")
    found = install(cache, "etcd", f"etcd Version: {catalog.ETCD.removeprefix('v')}")
    assert finder.find_programs(["etcd"])["etcd"].resolve() == found


def test_download_comes_before_build(cache, monkeypatch):
    def fetch(_family, _program, target, _arch):
        target.write_text("downloaded")
        return True

    monkeypatch.setattr(download, "fetch", fetch)
    assert finder.find_programs(["etcd"])["etcd"].read_text() == "downloaded"


@pytest.mark.parametrize("change", ["go.mod", "flags", "arch"])
def test_the_cache_key_depends_on_modules_flags_and_architecture(tmp_path, change):
    family = catalog.FAMILIES[catalog.FamilyName.ETCD]
    (tmp_path / "go.mod").write_text("module a")
    before = finder.family_key(family, tmp_path, "amd64")
    changed = family
    if change == "go.mod":
        (tmp_path / "go.mod").write_text("module b")
    if change == "flags":
        changed = catalog.FAMILIES[catalog.FamilyName.RUNC]
    arch = "arm64" if change == "arch" else "amd64"
    assert finder.family_key(changed, tmp_path, arch) != before


def test_the_build_command_is_reproducible_and_tagged():
    family = catalog.FAMILIES[catalog.FamilyName.RUNC]
    command = builder.build_command(family, family.programs[0], "/out/runc")
    assert command[:3] == ["go", "build", "-trimpath"]
    assert command[-3:] == ["-o", "/out/runc", "github.com/opencontainers/runc"]
    assert command[command.index("-tags") + 1] == "seccomp"


@pytest.mark.parametrize(
    "published",
    [
        DIGEST,
        f"{DIGEST}  runc.amd64\n",
        f"{'cd' * 32}  runc.arm64\n{DIGEST} *runc.amd64\n",
        f"{'cd' * 32}  ./other\n{DIGEST}  ./release/runc.amd64\n",
        DIGEST.upper(),
    ],
)
def test_the_checksum_of_the_file_is_found(published):
    assert download.checksum_for(published, "runc.amd64") == DIGEST


@pytest.mark.parametrize(
    "published", ["", f"{DIGEST}  other\n{DIGEST}  another", "<html>no</html>"]
)
def test_a_missing_checksum_refuses_the_download(published):
    with pytest.raises(ProgramUnavailableError, match=r"do not name runc\.amd64"):
        download.checksum_for(published, "runc.amd64")
