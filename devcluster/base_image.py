"""The image that ours are built on: the official one, or one made of Debian packages."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster.command import need_tools, run
from devcluster.console import say, step
from devcluster.download import is_reachable
from devcluster.engine import Engine
from devcluster.errors import CommandError
from devcluster.paths import cache_root

OFFICIAL = "python:3.13-slim-trixie"
OWN = "localhost/debian:trixie-slim"
_REGISTRY = "https://registry-1.docker.io/"
_SUITE = "trixie"  # its python3 is 3.13, as in the official image
_PACKAGES = "python3,python3-venv,ca-certificates"
_NOT_NEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
)
_AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def base_image(engine: Engine) -> str:
    """The name of a base image that the engine has or can pull."""
    for name in (OFFICIAL, OWN):
        if engine.has_image(name):
            return name
    if is_reachable(_REGISTRY):
        return OFFICIAL  # the build pulls it; not yet run where a registry answers
    say(f"No image registry answers, so the base image is made of Debian packages: {OWN}")
    _make(engine)
    return OWN


def _make(engine: Engine) -> None:
    need_tools({"debootstrap": "debootstrap"}, purpose="making a base image")
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="debootstrap-") as scratch:
        root = Path(scratch) / "root"
        with step(f"installing Debian {_SUITE} with Python into a base image"):
            variant = ["--variant=minbase", f"--include={_PACKAGES}"]
            run(["debootstrap", *variant, _SUITE, root])
            _slim(root)
            _trust_as_this_machine(root)
            _import(engine, root)


def _slim(root: Path) -> None:
    for folder in _NOT_NEEDED:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True)


def _trust_as_this_machine(root: Path) -> None:
    """What this machine trusts (a company's proxy), a build on this machine must trust."""
    bundle = Path(os.environ.get("SSL_CERT_FILE") or f"/{_AUTHORITIES}")
    if bundle.exists():
        shutil.copyfile(bundle, root / _AUTHORITIES)


def _import(engine: Engine, root: Path) -> None:
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        result = subprocess.run(
            [engine.client, "import", "-", OWN],
            stdin=tar.stdout,
            env={**os.environ, **engine.environment},
            capture_output=True,
            check=False,
        )
    if result.returncode or tar.returncode:
        raise CommandError(f"docker import {OWN} failed: {result.stderr.decode(errors='replace')}")
