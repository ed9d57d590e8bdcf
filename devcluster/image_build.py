"""Builds the project's images; the tag is a hash of what goes in, so nothing is built twice."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
# Layers of builds that no image has any more: the next build of the same lines takes them.
_UNNAMED_KEPT = "24h"
_OLDER_KEPT = 2  # somebody may be about to load them


class Part(StrEnum):
    """The images of the project."""

    OPERATOR = "operator"
    RUNTIME = "runtime"
    GATEWAY = "gateway"  # the runtime's code, without the libraries that serve models

    @property
    def code(self) -> "Part":
        """The part whose code is in the image."""
        return Part.RUNTIME if self is Part.GATEWAY else self


# The gateway runs in the runtime's image as well; its own one is for those who ship it.
USUAL_PARTS = (Part.OPERATOR, Part.RUNTIME)


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
    def dockerfile(self) -> str:
        return f"Dockerfile.{self.part}"

    @property
    def arguments(self) -> dict[str, str]:
        if self.part is not Part.RUNTIME:
            return {}
        return {"VARIANT": self.variant, "TORCH_INDEX_URL": self.torch_index}

    @property
    def repository(self) -> str:
        return f"{_REPOSITORY_PREFIX}{self.part}"

    def inputs(self) -> list[Path]:
        """The files that the Dockerfile copies, relative to the checkout."""
        code = source_files(REPOSITORY / f"{self.part.code}/modelserver_{self.part.code}")
        locks = [f"requirements/{self.part}.lock"]
        if self.part is Part.RUNTIME:
            locks.append("requirements/compiler.lock")
        named = [Path(name) for name in (self.dockerfile, "LICENSE", *locks)]
        return named + [path.relative_to(REPOSITORY) for path in code]

    def name(self, root: Path = REPOSITORY) -> str:
        return f"{self.repository}:{content_hash(root, self.inputs(), self.arguments)}"


def source_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if "__pycache__" not in path.parts]


def content_hash(root: Path, files: Sequence[Path], arguments: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for path in files:
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"\0{path}\0{content}".encode())
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedImage:
    """A copy of the inputs and the name that belongs to just this copy.

    Whoever edits a file during a build changes the next image, not the meaning of this name.
    """

    spec: ImageSpec
    name: str
    context: Path


def stage(spec: ImageSpec, context: Path) -> StagedImage:
    inputs = spec.inputs()
    for path in inputs:
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / path, context / path)
    name = f"{spec.repository}:{content_hash(context, inputs, spec.arguments)}"
    return StagedImage(spec=spec, name=name, context=context)


def image_specs(
    parts: Sequence[Part] = USUAL_PARTS,
    *,
    variant: Variant = Variant.CPU,
    torch_index: str = "",
) -> list[ImageSpec]:
    return [ImageSpec(part=part, variant=variant, torch_index=torch_index) for part in parts]


def build_images(specs: Sequence[ImageSpec], *, in_docker: bool = False) -> list[str]:
    """Build what is not there yet; return the names of all.

    `in_docker` wants them in the engine that answers, even if our own has them.
    """
    with tempfile.TemporaryDirectory(prefix="devcluster-images-") as scratch:
        images = [stage(spec, Path(scratch) / spec.part) for spec in specs]
        if in_docker or not all(docker_store.has_image(image.name) for image in images):
            with an_engine() as engine:
                for image in images:
                    _ensure_built(engine, image)
    return [image.name for image in images]


def _ensure_built(engine: Engine, image: StagedImage) -> None:
    if engine.has_image(image.name):
        return
    base = base_image(engine)
    arguments = {"BASE_IMAGE": base, **image.spec.arguments}
    dockerfile = f"--file={image.context / image.spec.dockerfile}"
    argv = ["build", "--network=host", dockerfile, f"--tag={image.name}"]
    argv += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    with step(f"building {image.name} on {base}"):
        _run_build(engine, [*argv, str(image.context)], image.spec.part)
    size = int(engine.docker("image", "inspect", "--format={{.Size}}", image.name))
    say(f"  {image.name} has {size / 1e6:.0f} MB")
    _remove_older(engine, image)


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


def _remove_older(engine: Engine, image: StagedImage) -> None:
    """Only in our own engine: nobody else runs containers from it, and an image has gigabytes."""
    if not engine.is_ours:
        return
    names = engine.docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", image.spec.repository)
    older = [name for name in names.split() if name != image.name and "<none>" not in name]
    for name in older[_OLDER_KEPT:]:  # the newest come first
        remove_image(engine, name)
    engine.docker("image", "prune", "--force", f"--filter=until={_UNNAMED_KEPT}")
