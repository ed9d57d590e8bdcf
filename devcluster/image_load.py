"""Puts images where a cluster's pods can take them from."""

import os
import subprocess
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO

from devcluster import docker_store, finder
from devcluster.command import run, succeeds
from devcluster.console import say, step
from devcluster.docker_store import Layer, StoredImage
from devcluster.engine import Engine, answering_engine
from devcluster.errors import ClusterStateError, CommandError
from devcluster.layer_link import link_layers, release_layers
from devcluster.lock import locked
from devcluster.node import containerd_socket
from devcluster.node_up import ctr_command, images_on_node
from devcluster.paths import ClusterFolder, cluster_folder

_IMPORT = ("images", "import", "--local", "--discard-unpacked-layers", "-")


class Target(StrEnum):
    """What runs the pods. `kind` and `k3d` are written with care, but not yet run."""

    NODE = "node"
    DOCKER = "docker"
    KIND = "kind"
    K3D = "k3d"


def load_images(names: Sequence[str], *, target: Target, cluster: str) -> None:
    match target:
        case Target.NODE:
            _load_into_node(names, cluster_folder(cluster))
        case Target.DOCKER:
            _check_docker(names)
        case Target.KIND:
            for name in names:
                run(["kind", "load", "docker-image", name, "--name", cluster])
        case Target.K3D:
            run(["k3d", "image", "import", *names, "--cluster", cluster])


def _check_docker(names: Sequence[str]) -> None:
    """Clusters that share Docker's images (Docker Desktop, minikube's engine) need no copy."""
    engine = answering_engine()
    missing = [name for name in names if engine is None or not engine.has_image(name)]
    if missing:
        raise ClusterStateError(
            f"Docker does not have {', '.join(missing)}; build first: python -m devcluster images"
        )


def _load_into_node(names: Sequence[str], folder: ClusterFolder) -> None:
    if not containerd_socket(folder).is_socket():
        raise ClusterStateError(
            f"the cluster {folder.name} has no running node to load images into; bring it up: "
            f"python -m devcluster up --name {folder.name}"
        )
    ctr = finder.cached_program("ctr")
    with locked(folder.root):
        known = images_on_node(folder, ctr)
        for name in names:
            if name in known:
                say(f"✓ {name} is in the cluster {folder.name} already")
            else:
                _load(name, folder, ctr)


def _load(name: str, folder: ClusterFolder, ctr: Path) -> None:
    image = docker_store.stored_image(name)
    if image is None:
        _load_from_engine(name, folder, ctr)
        return
    wanted = [layer for layer in image.layers if not _is_unpacked(layer, folder, ctr)]
    argv = ctr_command(folder, ctr)
    with step(f"loading {name}: {len(wanted)} of {len(image.layers)} layers"):
        if link_layers(wanted, argv):
            _import_archive(image, (), argv)
            release_layers(wanted, argv)
        else:
            still = [layer for layer in wanted if not _is_unpacked(layer, folder, ctr)]
            _import_archive(image, still, argv)


def _is_unpacked(layer: Layer, folder: ClusterFolder, ctr: Path) -> bool:
    return succeeds([*ctr_command(folder, ctr), "snapshots", "info", layer.chain_id])


def _import_archive(image: StoredImage, wanted: Sequence[Layer], ctr: Sequence[str | Path]) -> None:
    argv = [str(argument) for argument in (*ctr, *_IMPORT)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as importer:
        pipe = _opened(importer.stdin)
        try:
            docker_store.write_archive(image, wanted, pipe)
            pipe.close()
        except BrokenPipeError:
            pass  # the importer ended early; its own words tell why
        said = _opened(importer.stderr).read().decode(errors="replace")
    if importer.returncode:
        raise CommandError(f"ctr could not import {image.name}: {said}")


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the pipe was not asked for")
    return pipe


def _load_from_engine(name: str, folder: ClusterFolder, ctr: Path) -> None:
    engine = answering_engine()
    if engine is None or not engine.has_image(name):
        raise ClusterStateError(
            f"there is no image {name}; build the project's images with `python -m devcluster "
            "images`, or another one with `docker build`"
        )
    with step(f"loading {name} by docker save"):
        _pipe(engine, name, [str(argument) for argument in (*ctr_command(folder, ctr), *_IMPORT)])


def _pipe(engine: Engine, name: str, importer: Sequence[str]) -> None:
    environment = {**os.environ, **engine.environment}
    with subprocess.Popen(
        [engine.client, "save", name], stdout=subprocess.PIPE, env=environment
    ) as saving:
        result = subprocess.run(importer, stdin=saving.stdout, capture_output=True, check=False)
    if result.returncode or saving.returncode:
        raise CommandError(f"loading {name} failed: {result.stderr.decode(errors='replace')}")
