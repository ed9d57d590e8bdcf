"""Which programs a cluster needs, in which versions, and how each can be had."""

from dataclasses import dataclass, field
from enum import StrEnum

KUBERNETES = "v1.36.3"
ETCD = "v3.7.3"
CONTAINERD = "v2.4.2"
RUNC = "v1.5.2"
COREDNS = "v1.15.0"
CNI = "v1.9.1"
ARGOCD = "v3.2.0"
ENVOY_GATEWAY = "v1.9.1"
KEDA = "v2.21.0"
METRICS_SERVER = "v0.9.0"


class FamilyName(StrEnum):
    """A set of programs that are built from one go.mod."""

    ETCD = "etcd"
    KUBERNETES = "kubernetes"
    CONTAINERD = "containerd"
    RUNC = "runc"
    CNI = "cni"
    COREDNS = "coredns"
    PAUSE = "pause"
    ARGOCD = "argocd"
    ENVOY_GATEWAY = "envoy-gateway"
    KEDA = "keda"
    METRICS_SERVER = "metrics-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`package` is what `go build` gets; `version_arguments` make the program print its version."""

    name: str
    package: str
    version_arguments: tuple[str, ...] = ("--version",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An official download; `{program}`, `{version}`, `{number}` and `{arch}` are filled in.

    `member` is the program's path in the archive, or empty when the address is the program.
    """

    address: str
    checksum: str
    member: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    name: FamilyName
    version: str
    programs: tuple[Program, ...]
    release: Release | None
    ldflags: str = "-s -w"
    tags: str = ""
    cgo: bool = False
    debian_packages: tuple[str, ...] = ()
    folders: tuple[str, ...] = field(default=())  # searched besides PATH


_GITHUB = "https://github.com"
_KUBERNETES_LDFLAGS = (
    "-s -w -X k8s.io/component-base/version.gitVersion={version}"
    " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor={minor}"
    " -X k8s.io/component-base/version.gitTreeState=clean"
)


def _kubernetes(name: str, *version_arguments: str) -> Program:
    package = f"k8s.io/kubernetes/cmd/{name}"
    return Program(
        name=name, package=package, version_arguments=version_arguments or ("--version",)
    )


def _cni_plugin(kind: str, name: str) -> Program:
    package = f"github.com/containernetworking/plugins/plugins/{kind}/{name}"
    return Program(name=name, package=package, version_arguments=())


def _of_keda(name: str, command: str) -> Program:
    package = f"github.com/kedacore/keda/v2/cmd/{command}"
    return Program(name=name, package=package, version_arguments=())


FAMILIES: dict[FamilyName, Family] = {
    family.name: family
    for family in (
        Family(
            name=FamilyName.ETCD,
            version=ETCD,
            programs=(Program(name="etcd", package="go.etcd.io/etcd/server/v3"),),
            release=Release(
                address=f"{_GITHUB}/etcd-io/etcd/releases/download/{{version}}/etcd-{{version}}-linux-{{arch}}.tar.gz",
                checksum=f"{_GITHUB}/etcd-io/etcd/releases/download/{{version}}/SHA256SUMS",
                member="etcd-{version}-linux-{arch}/{program}",
            ),
        ),
        Family(
            name=FamilyName.KUBERNETES,
            version=KUBERNETES,
            programs=(
                _kubernetes("kube-apiserver"),
                _kubernetes("kubectl", "version", "--client"),
                _kubernetes("kube-controller-manager"),
                _kubernetes("kube-scheduler"),
                _kubernetes("kubelet"),
                _kubernetes("kube-proxy"),
            ),
            release=Release(
                address="https://dl.k8s.io/{version}/bin/linux/{arch}/{program}",
                checksum="https://dl.k8s.io/{version}/bin/linux/{arch}/{program}.sha256",
            ),
            ldflags=_KUBERNETES_LDFLAGS.format(version=KUBERNETES, minor=KUBERNETES.split(".")[1]),
        ),
        Family(
            name=FamilyName.CONTAINERD,
            version=CONTAINERD,
            programs=(
                Program(
                    name="containerd", package="github.com/containerd/containerd/v2/cmd/containerd"
                ),
                Program(
                    name="containerd-shim-runc-v2",
                    package="github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                    version_arguments=("-v",),
                ),
                Program(name="ctr", package="github.com/containerd/containerd/v2/cmd/ctr"),
            ),
            release=Release(
                address=f"{_GITHUB}/containerd/containerd/releases/download/{{version}}/containerd-{{number}}-linux-{{arch}}.tar.gz",
                checksum=f"{_GITHUB}/containerd/containerd/releases/download/{{version}}/containerd-{{number}}-linux-{{arch}}.tar.gz.sha256sum",
                member="bin/{program}",
            ),
            ldflags=f"-s -w -X github.com/containerd/containerd/v2/version.Version={CONTAINERD}",
        ),
        Family(
            name=FamilyName.RUNC,
            version=RUNC,
            programs=(Program(name="runc", package="github.com/opencontainers/runc"),),
            release=Release(
                address=f"{_GITHUB}/opencontainers/runc/releases/download/{{version}}/runc.{{arch}}",
                checksum=f"{_GITHUB}/opencontainers/runc/releases/download/{{version}}/runc.sha256sum",
            ),
            tags="seccomp",
            cgo=True,
            debian_packages=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
        ),
        Family(
            name=FamilyName.CNI,
            version=CNI,
            programs=(
                _cni_plugin("main", "bridge"),
                _cni_plugin("main", "loopback"),
                _cni_plugin("ipam", "host-local"),
                _cni_plugin("meta", "portmap"),
            ),
            release=Release(
                address=f"{_GITHUB}/containernetworking/plugins/releases/download/{{version}}/cni-plugins-linux-{{arch}}-{{version}}.tgz",
                checksum=f"{_GITHUB}/containernetworking/plugins/releases/download/{{version}}/cni-plugins-linux-{{arch}}-{{version}}.tgz.sha256",
                member="./{program}",
            ),
            ldflags=(
                "-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion"
                f".BuildVersion={CNI}"
            ),
            folders=("/opt/cni/bin", "/usr/lib/cni"),
        ),
        Family(
            name=FamilyName.COREDNS,
            version=COREDNS,
            programs=(
                Program(
                    name="coredns",
                    package="github.com/coredns/coredns",
                    version_arguments=("-version",),
                ),
            ),
            release=Release(
                address=f"{_GITHUB}/coredns/coredns/releases/download/{{version}}/coredns_{{number}}_linux_{{arch}}.tgz",
                checksum=f"{_GITHUB}/coredns/coredns/releases/download/{{version}}/coredns_{{number}}_linux_{{arch}}.tgz.sha256",
                member="{program}",
            ),
        ),
        Family(
            name=FamilyName.PAUSE,
            version="v1.0.0",
            programs=(Program(name="pause", package="."),),
            release=None,  # our own twenty lines: there is nothing to download
        ),
        Family(
            name=FamilyName.ARGOCD,
            version=ARGOCD,
            programs=(
                Program(
                    name="argocd",  # also the controller and the servers, by ARGOCD_BINARY_NAME
                    package="github.com/argoproj/argo-cd/v3/cmd",
                    version_arguments=("version", "--client", "--short"),
                ),
            ),
            release=Release(
                address=f"{_GITHUB}/argoproj/argo-cd/releases/download/{{version}}/argocd-linux-{{arch}}",
                checksum=f"{_GITHUB}/argoproj/argo-cd/releases/download/{{version}}/cli_checksums.txt",
            ),
            ldflags=(
                f"-s -w -X github.com/argoproj/argo-cd/v3/common.version={ARGOCD.removeprefix('v')}"
            ),
        ),
        Family(
            name=FamilyName.ENVOY_GATEWAY,
            version=ENVOY_GATEWAY,
            programs=(
                Program(
                    name="envoy-gateway",
                    package="github.com/envoyproxy/gateway/cmd/envoy-gateway",
                    version_arguments=("version",),
                ),
            ),
            release=None,  # an image is what people install
            ldflags=(
                "-s -w -X github.com/envoyproxy/gateway/internal/cmd/version"
                f".envoyGatewayVersion={ENVOY_GATEWAY}"
            ),
        ),
        Family(
            name=FamilyName.KEDA,
            version=KEDA,
            programs=(
                _of_keda("keda-operator", "operator"),
                _of_keda("keda-adapter", "adapter"),
                _of_keda("keda-admission-webhooks", "webhooks"),
            ),
            release=None,  # images are what people install
            ldflags=f"-s -w -X github.com/kedacore/keda/v2/version.Version={KEDA[1:]}",
        ),
        Family(
            name=FamilyName.METRICS_SERVER,
            version=METRICS_SERVER,
            programs=(
                Program(
                    name="metrics-server", package="sigs.k8s.io/metrics-server/cmd/metrics-server"
                ),
            ),
            release=None,  # an image is what people install
            ldflags=f"-s -w -X k8s.io/client-go/pkg/version.gitVersion={METRICS_SERVER}",
        ),
    )
}

API_ONLY = (FamilyName.ETCD, FamilyName.KUBERNETES)
API_ONLY_PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
CONTROLLER_PROGRAM = "kube-controller-manager"
BESIDE_A_CLUSTER = (  # what only tests run
    FamilyName.ARGOCD,
    FamilyName.ENVOY_GATEWAY,
    FamilyName.KEDA,
    FamilyName.METRICS_SERVER,
)
ALL_PROGRAMS = tuple(
    program.name
    for family in FAMILIES.values()
    for program in family.programs
    if family.name not in BESIDE_A_CLUSTER
)
KNOWN_PROGRAMS = tuple(program.name for family in FAMILIES.values() for program in family.programs)


def family_of(program: str) -> Family:
    for family in FAMILIES.values():
        if any(member.name == program for member in family.programs):
            return family
    raise KeyError(program)


def programs_of(name: str) -> tuple[str, ...]:
    """All of a family that has the name and no program by it; else the name itself."""
    if name in KNOWN_PROGRAMS or name not in FamilyName:
        return (name,)
    return tuple(program.name for program in FAMILIES[FamilyName(name)].programs)


def program_named(name: str) -> Program:
    return next(program for program in family_of(name).programs if program.name == name)
