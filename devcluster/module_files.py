"""Files of Go modules that are no programs: definitions and manifests, known by their checksums."""

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from devcluster.command import run
from devcluster.errors import MissingToolError, ProgramUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """`checksum` is what go.sum says."""

    path: str
    version: str
    checksum: str

    @property
    def wanted(self) -> str:
        return f"{self.path}@{self.version}"


def download(module: Module, *, purpose: str) -> Path:
    """The module's zip, in Go's own cache."""
    if shutil.which("go") is None:
        raise MissingToolError(
            f"Go is not installed, and {purpose} come from the Go module"
            f" {module.wanted}; install Go (https://go.dev/dl) and run again"
        )
    with tempfile.TemporaryDirectory() as empty:  # in a module, its go.mod would have a say
        plain = {"GOFLAGS": "", "GOWORK": "off"}
        command = ["go", "mod", "download", "-json", module.wanted]
        described = json.loads(run(command, folder=Path(empty), environment=plain))
    if described["Sum"] != module.checksum:
        raise ProgramUnavailableError(
            f"{module.wanted} has the checksum {described['Sum']}, but {module.checksum} is"
            " expected; do not use it, and ask whoever runs the module proxy"
        )
    return Path(described["Zip"])


def extract(archive: Path, module: Module, folder: str, target: Path) -> None:
    """What the module has in a folder lies in `target` by the same names afterwards."""
    root = f"{module.wanted}/"
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if name.startswith(root + folder):
                path = target / name.removeprefix(root)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files.read(name))
