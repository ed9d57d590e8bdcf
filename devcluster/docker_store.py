"""Reads images straight from our own engine's folder, layer by layer, without the engine.

`docker save` always writes every layer of an image; this gives just the layers that a node
lacks, which for changed code is kilobytes instead of gigabytes. The layout (overlay2 with
tar-split) is that of Docker with its own image store; for any other engine `docker save` is used.
"""

import base64
import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from devcluster.engine import DRIVER, engine_data

_CHUNK = 1 << 20
_FILE, _SEGMENT = 1, 2  # tar-split's entry types
_OCI = "application/vnd.oci.image"


def _images() -> Path:
    return engine_data() / "image" / DRIVER


def _digest_file(*parts: str, digest: str) -> Path:
    return _images().joinpath(*parts, *digest.split(":"))


def has_image(name: str) -> bool:
    return _image_id(name) is not None


def _image_id(name: str) -> str | None:
    try:
        repositories = json.loads((_images() / "repositories.json").read_text())["Repositories"]
    except FileNotFoundError:
        return None
    digest: str | None = repositories.get(name.rpartition(":")[0], {}).get(name)
    return digest


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The name of each layer together with those below it (OCI image specification)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chain = f"{chains[-1]} {diff_id}".encode() if chains else b""
        chains.append(f"sha256:{hashlib.sha256(chain).hexdigest()}" if chain else diff_id)
    return chains


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an image; `content` gives the tar that the digest is the hash of."""

    diff_id: str
    chain_id: str
    parent_id: str  # the chain id of the layer below, or empty

    @property
    def _database(self) -> Path:
        return _digest_file("layerdb", digest=self.chain_id)

    @property
    def files(self) -> Path:
        """The layer, unpacked."""
        cache_id = (self._database / "cache-id").read_text().strip()
        return engine_data() / DRIVER / cache_id / "diff"

    def size(self) -> int:
        """Bytes of the tar."""
        return sum(
            entry.get("size", 0) if entry["type"] == _FILE else len(_payload(entry))
            for entry in self._entries()
        )

    def content(self) -> Iterator[bytes]:
        """Headers as they were stored, and between them the files' content."""
        files = self.files
        for entry in self._entries():
            if entry["type"] == _SEGMENT:
                yield _payload(entry)
            elif entry.get("size"):
                yield from _chunks(files / _entry_name(entry))

    def _entries(self) -> Iterator[dict[str, Any]]:
        with gzip.open(self._database / "tar-split.json.gz") as lines:
            for line in lines:
                yield json.loads(line)


def _payload(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry.get("payload") or "")


def _entry_name(entry: dict[str, Any]) -> str:
    if "name_raw" in entry:  # a name that is no UTF-8
        return base64.b64decode(entry["name_raw"]).decode(errors="surrogateescape").lstrip("/")
    return str(entry["name"]).lstrip("/")


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of our own engine: its configuration, as it was hashed, and its layers."""

    name: str
    config: bytes
    layers: tuple[Layer, ...]


def stored_image(name: str) -> StoredImage | None:
    digest = _image_id(name)
    if digest is None:
        return None
    config = _digest_file("imagedb", "content", digest=digest).read_bytes()
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    chains = chain_ids(diff_ids)
    layers = [
        Layer(diff_id=diff_id, chain_id=chain_id, parent_id=parent_id)
        for diff_id, chain_id, parent_id in zip(diff_ids, chains, ["", *chains[:-1]], strict=True)
    ]
    return StoredImage(name=name, config=config, layers=tuple(layers))


def write_archive(image: StoredImage, wanted: Sequence[Layer], output: IO[bytes]) -> None:
    """Write an OCI layout that names all layers and holds only the wanted ones."""
    manifest = json.dumps(_manifest(image)).encode()
    index = json.dumps(_index(image, manifest)).encode()
    with tarfile.open(fileobj=output, mode="w|") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", index)
        _add(tar, _blob(_digest(manifest)), manifest)
        _add(tar, _blob(_digest(image.config)), image.config)
        for layer in wanted:
            _add_layer(tar, layer)


def _manifest(image: StoredImage) -> dict[str, Any]:
    layers = [
        {"mediaType": f"{_OCI}.layer.v1.tar", "digest": layer.diff_id, "size": layer.size()}
        for layer in image.layers
    ]
    config = _descriptor(f"{_OCI}.config.v1+json", image.config)
    return {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": config,
        "layers": layers,
    }


def _index(image: StoredImage, manifest: bytes) -> dict[str, Any]:
    descriptor = _descriptor(f"{_OCI}.manifest.v1+json", manifest)
    named = {**descriptor, "annotations": {"io.containerd.image.name": image.name}}
    return {"schemaVersion": 2, "manifests": [named]}


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))


def _add_layer(tar: tarfile.TarFile, layer: Layer) -> None:
    member = tarfile.TarInfo(_blob(layer.diff_id))
    member.size = layer.size()
    tar.addfile(member, _Stream(layer.content()))


class _Stream(BytesIO):
    """A file to read from whose content is made while it is read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int | None = -1) -> bytes:
        """Never short before the end, which is what tarfile expects."""
        wanted = -1 if size is None else size
        parts, length = [self._rest], len(self._rest)
        while wanted < 0 or length < wanted:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            length += len(chunk)
        content = b"".join(parts)
        end = length if wanted < 0 else wanted
        self._rest = content[end:]
        return content[:end]
