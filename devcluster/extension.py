"""A project that serves an API of its own, run in a cluster with a node: KEDA, metrics-server.

Installed by its own manifests, as its users do it, but for the images, which have nothing but a
program that was compiled here, and for how soon a pod is first asked whether it is ready.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devcluster import addons, finder
from devcluster.cluster import Cluster
from devcluster.console import step
from devcluster.errors import ClusterStateError
from devcluster.kustomized import Manifest, kustomized
from devcluster.lock import locked
from devcluster.module_files import Module
from devcluster.node_up import import_programs
from devcluster.record import Mode

_READY_SECONDS = 300
_DEFINITION = "CustomResourceDefinition"
# Objects whose finalizers nobody works off would be waited for without an end.
_DELETE = ("delete", "--ignore-not-found", f"--timeout={_READY_SECONDS}s")
_APPLY = ("apply", "--server-side", "--force-conflicts", "--field-manager=devcluster")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """`kustomization` is a folder of the module; `api` is the APIService that must answer."""

    name: str
    namespace: str
    module: Module
    kustomization: str
    programs: Mapping[str, str]  # that the Deployments run
    api: str
    adapt: Callable[[Cluster, list[Manifest]], list[Manifest]]


def install(cluster: Cluster, extension: Extension) -> None:
    """Returns when the API is answered."""
    _need_node(cluster, extension)
    programs = finder.find_programs(list(extension.programs.values()))
    with locked(cluster.folder.root), step(f"loading the images of {extension.name}"):
        images = import_programs(cluster.folder, finder.cached_program("ctr"), programs)
    made = manifests(cluster, extension)
    run_by = {name: images[program] for name, program in extension.programs.items()}
    _kubectl(cluster, *_APPLY, "-f", "-", stdin=_list([with_image(one, run_by) for one in made]))
    with step(f"waiting for {extension.name}"):
        for name in extension.programs:
            _wait(cluster, extension, f"deployment/{name}")
        _wait(cluster, extension, f"apiservice/{extension.api}")


def remove(cluster: Cluster, extension: Extension) -> None:
    """Its definitions go first, while somebody is there who ends what was made of them."""
    made = manifests(cluster, extension)
    definitions = [one for one in made if one["kind"] == _DEFINITION]
    others = [one for one in made if one["kind"] != _DEFINITION]
    with step(f"removing {extension.name}"):
        for part in (definitions, others):
            if part:
                _kubectl(cluster, *_DELETE, "-f", "-", stdin=_list(part))


def manifests(cluster: Cluster, extension: Extension) -> list[Manifest]:
    made = kustomized(
        extension.module,
        extension.kustomization,
        name=extension.name,
        kubectl=cluster.kubectl,
    )
    return extension.adapt(cluster, made)


def with_image(manifest: Manifest, images: Mapping[str, str]) -> Manifest:
    """A Deployment that runs the one program of its image, and is ready as soon as it says so."""
    if manifest["kind"] != "Deployment":
        return manifest
    made = copy.deepcopy(manifest)
    [container] = made["spec"]["template"]["spec"]["containers"]
    container |= {"image": images[made["metadata"]["name"]], "imagePullPolicy": "IfNotPresent"}
    container.pop("command", None)  # the image has the only one there is
    container["readinessProbe"] |= {"initialDelaySeconds": 0, "periodSeconds": 2}
    return made


def _need_node(cluster: Cluster, extension: Extension) -> None:
    if cluster.record.mode is not Mode.NODE:
        raise ClusterStateError(
            f"the cluster {cluster.name} has no node for the pods of {extension.name}; take one"
            f" with a node: python -m devcluster up --name {cluster.name}"
        )


def _wait(cluster: Cluster, extension: Extension, name: str) -> None:
    within = ("--for=condition=Available", f"--timeout={_READY_SECONDS}s")
    _kubectl(cluster, "-n", extension.namespace, "wait", name, *within)


def _list(items: Sequence[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _kubectl(cluster: Cluster, *arguments: str, stdin: str = "") -> str:
    return addons.kubectl(cluster.folder, cluster.kubectl, *arguments, stdin=stdin)
