"""Definitions (CRDs) of projects that a ModelServer can work with, from their Go modules.

With them the API server checks what the operator writes for those projects, though none of their
programs runs.
"""

import json
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from devcluster import addons
from devcluster.catalog import ARGOCD, ENVOY_GATEWAY, KEDA
from devcluster.cluster import Cluster
from devcluster.console import step
from devcluster.errors import NotReadyError, ProgramUnavailableError
from devcluster.lock import locked
from devcluster.module_files import Module, download
from devcluster.paths import cache_root

_KIND = "CustomResourceDefinition"
_APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=devcluster")
_ESTABLISHED_SECONDS = 180
_LOOK_SECONDS = 0.2
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a MiB takes half a minute in Python

type Manifest = dict[str, Any]


class BundleName(StrEnum):
    ISTIO = "istio"
    GATEWAY_API = "gateway-api"
    ARGOCD = "argocd"
    ENVOY_GATEWAY = "envoy-gateway"
    KEDA = "keda"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`checksum` is what go.sum would say; `members` are files and folders in the module."""

    name: BundleName
    module: str
    version: str
    checksum: str
    members: tuple[str, ...]

    @property
    def file(self) -> Path:
        return cache_root() / "definitions" / f"{self.name}-{self.version}.json"


BUNDLES = {
    bundle.name: bundle
    for bundle in (
        Bundle(
            name=BundleName.ISTIO,
            module="istio.io/istio",
            version="v0.0.0-20260827124520-eed52ebb66ad",
            checksum="h1:ui9TJjRMAV/hb5ehQaZDq7IUGxuQP6dra9lapT/VjHI=",
            members=("manifests/charts/base/files/crd-all.gen.yaml",),
        ),
        Bundle(
            name=BundleName.GATEWAY_API,
            module="sigs.k8s.io/gateway-api",
            version="v1.6.1",
            checksum="h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY=",
            members=("config/crd/standard/",),
        ),
        Bundle(
            name=BundleName.ARGOCD,
            module="github.com/argoproj/argo-cd/v3",
            version=ARGOCD,
            checksum="h1:m2eGAV+nXQGgzZbH5SyJD5laaPW27mzWXBrgisUHY/0=",
            members=("manifests/crds/application-crd.yaml", "manifests/crds/appproject-crd.yaml"),
        ),
        Bundle(
            name=BundleName.ENVOY_GATEWAY,
            module="github.com/envoyproxy/gateway",
            version=ENVOY_GATEWAY,
            checksum="h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=",
            members=("charts/gateway-helm/charts/crds/crds/generated/",),
        ),
        Bundle(
            name=BundleName.KEDA,
            module="github.com/kedacore/keda/v2",
            version=KEDA,
            checksum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
            members=("config/crd/bases/keda.sh_",),
        ),
    )
}


def definitions(name: BundleName) -> list[Manifest]:
    """From the cache; fetched into it the first time."""
    bundle = BUNDLES[name]
    bundle.file.parent.mkdir(parents=True, exist_ok=True)
    with locked(bundle.file.parent):
        if not bundle.file.exists():
            with step(f"fetching the definitions of {name} {bundle.version}"):
                _fetch(bundle)
    found: list[Manifest] = json.loads(bundle.file.read_text())
    return found


def install_definitions(
    cluster: Cluster, names: Sequence[BundleName], *, kinds: Sequence[str] = ()
) -> None:
    """Returns when the API server serves all of them; `kinds` are all that is wanted, if given."""
    found = (one for name in names for one in definitions(name))
    manifests = [one for one in found if not kinds or one["spec"]["names"]["kind"] in kinds]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    _kubectl(cluster, *_APPLY, "-f", "-", stdin=everything)
    _wait_until_established(cluster, [one["metadata"]["name"] for one in manifests])


def _wait_until_established(cluster: Cluster, names: Sequence[str]) -> None:
    """Not by `kubectl wait`, which fails where a definition is so new that it has no conditions."""
    deadline = time.monotonic() + _ESTABLISHED_SECONDS
    while missing := list(_not_established(cluster, names)):
        if time.monotonic() > deadline:
            raise NotReadyError(
                f"the API server does not serve {', '.join(missing)} after"
                f" {_ESTABLISHED_SECONDS} s; look at `kubectl describe crd {missing[0]}`"
            )
        time.sleep(_LOOK_SECONDS)


def _not_established(cluster: Cluster, names: Sequence[str]) -> Iterator[str]:
    found = json.loads(_kubectl(cluster, "get", "crd", *names, "--output=json"))
    for definition in found.get("items", [found]):
        conditions = definition.get("status", {}).get("conditions") or []
        states = {one["type"]: one["status"] for one in conditions}
        if states.get("Established") != "True":
            yield definition["metadata"]["name"]


def _kubectl(cluster: Cluster, *arguments: str, stdin: str = "") -> str:
    return addons.kubectl(cluster.folder, cluster.kubectl, *arguments, stdin=stdin)


def _fetch(bundle: Bundle) -> None:
    """In one step, so that an interrupted fetch leaves nothing."""
    found = list(_definitions_in(bundle))
    if not found:
        raise ProgramUnavailableError(
            f"{bundle.module}@{bundle.version} has no {_KIND} in {', '.join(bundle.members)}"
        )
    unfinished = bundle.file.with_name(f".{bundle.file.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(found))
    unfinished.rename(bundle.file)


def _definitions_in(bundle: Bundle) -> Iterator[Manifest]:
    module = Module(path=bundle.module, version=bundle.version, checksum=bundle.checksum)
    archive = download(module, purpose=f"the definitions of {bundle.name}")
    root = f"{module.wanted}/"
    wanted = tuple(root + member for member in bundle.members)
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            if name.startswith(wanted) and name.endswith(".yaml"):
                documents = yaml.load_all(files.read(name), Loader=_LOADER)
                yield from (one for one in documents if one and one["kind"] == _KIND)
