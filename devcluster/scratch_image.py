"""Container images from nothing but one static program, made without a container engine."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from devcluster.finder import architecture


def image_name(program: str, path: Path) -> str:
    """The tag names the cached program's family folder, which is keyed by its inputs."""
    key = hashlib.sha256(str(path.parent.name).encode()).hexdigest()[:12]
    return f"localhost/devcluster/{program}:{key}"


def make_image_archive(name: str, program: Path) -> bytes:
    """An archive as `docker save` writes it: the program at /NAME is all there is."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65532:65532"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        }
    ).encode()
    manifest = [{"Config": f"{_sha256(config)}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "layer.tar": (layer, 0o644),
            f"{_sha256(config)}.json": (config, 0o644),
            "manifest.json": (json.dumps(manifest).encode(), 0o644),
        }
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
