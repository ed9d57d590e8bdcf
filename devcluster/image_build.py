"""Builds the project's images; the tag is a hash of what goes in, so nothing is built twice."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from devcluster import docker_store
from devcluster.base_image import base_image
from devcluster.console import say, step
from devcluster.engine import Engine, an_engine, remove_image
from devcluster.errors import CommandError
from devcluster.paths import REPOSITORY, cache_root

_REPOSITORY_PREFIX = "localhost/modelserver-"
_SHOWN_LINES = 30


class Part(StrEnum):
    """The two images of the project."""

    OPERATOR = "operator"
    RUNTIME = "runtime"


class Variant(StrEnum):
    """What the runtime image is made for."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """One image to build: everything that its content depends on, the base image left out.

    The base is left out because it depends on whether a registry can be reached just now.
    """

    part: Part
    variant: Variant = Variant.CPU
    torch_index: str = ""

    @property
    def dockerfile(self) -> Path:
        return REPOSITORY / f"Dockerfile.{self.part}"

    @property
    def arguments(self) -> dict[str, str]:
        if self.part is Part.OPERATOR:
            return {}
        return {"VARIANT": self.variant, "TORCH_INDEX_URL": self.torch_index}

    @property
    def repository(self) -> str:
        return f"{_REPOSITORY_PREFIX}{self.part}"

    @property
    def name(self) -> str:
        return f"{self.repository}:{content_hash(self.inputs(), self.arguments)}"

    def inputs(self) -> Iterator[Path]:
        """The files that the Dockerfile copies."""
        yield from (self.dockerfile, REPOSITORY / ".dockerignore", REPOSITORY / "LICENSE")
        yield REPOSITORY / f"requirements/{self.part}.lock"
        yield from source_files(REPOSITORY / f"{self.part}/modelserver_{self.part}")


def source_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if "__pycache__" not in path.parts]


def content_hash(files: Iterator[Path], arguments: dict[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for path in files:
        name = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path.name
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"\0{name}\0{content}".encode())
    return digest.hexdigest()[:12]


def image_specs(
    parts: Sequence[Part] = tuple(Part),
    *,
    variant: Variant = Variant.CPU,
    torch_index: str = "",
) -> list[ImageSpec]:
    return [ImageSpec(part=part, variant=variant, torch_index=torch_index) for part in parts]


def build_images(specs: Sequence[ImageSpec]) -> list[str]:
    """Build what the engine does not have yet; return the names of all."""
    if any(not docker_store.has_image(spec.name) for spec in specs):
        with an_engine() as engine:
            for spec in specs:
                if not engine.has_image(spec.name):
                    _build(engine, spec)
    return [spec.name for spec in specs]


def _build(engine: Engine, spec: ImageSpec) -> None:
    base = base_image(engine)
    arguments = {"BASE_IMAGE": base, **spec.arguments}
    build_arguments = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    with step(f"building {spec.name} on {base}"):
        argv = ["build", "--network=host", f"--file={spec.dockerfile}", f"--tag={spec.name}"]
        _run_build(engine, [*argv, *build_arguments, str(REPOSITORY)], spec.part)
    size = int(engine.docker("image", "inspect", "--format={{.Size}}", spec.name))
    say(f"  {spec.name} has {size / 1e6:.0f} MB")
    _remove_older(engine, spec)


def _run_build(engine: Engine, argv: Sequence[str], part: Part) -> None:
    """The whole output goes to a file; its end is shown when the build fails."""
    log = cache_root() / f"image-{part}.log"
    with log.open("wb") as output:
        result = subprocess.run(
            [engine.client, *argv],
            env={**os.environ, **engine.environment},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if result.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
        print(end, file=sys.stderr)
        raise CommandError(f"building the {part} image failed, see above; all of it is in {log}")


def _remove_older(engine: Engine, spec: ImageSpec) -> None:
    """Only in our own engine: nobody else runs containers from it, and an image has gigabytes."""
    if not engine.is_ours:
        return
    names = engine.docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", spec.repository)
    for name in names.split():
        if name != spec.name and not name.endswith(":<none>"):
            remove_image(engine, name)
