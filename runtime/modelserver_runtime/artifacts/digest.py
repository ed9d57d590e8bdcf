"""The digests by which a hub names contents."""

import hashlib
from pathlib import Path
from typing import Protocol

from modelserver_runtime.artifacts.selection import RemoteFile

_READ_BYTES = 1 << 20


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def new_hash(file: RemoteFile) -> Hash:
    """SHA-256 of the contents for large files, else git's SHA-1, which starts with a header."""
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)


def expected_digest(file: RemoteFile) -> str:
    """Empty if the hub has named none."""
    return file.sha256 or file.git_blob


def update_from(hash_: Hash, path: Path) -> None:
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            hash_.update(block)


def matches(path: Path, file: RemoteFile) -> bool:
    """Whether a file on disk has the size and the digest that the hub names."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != file.size:
        return False
    hash_ = new_hash(file)
    update_from(hash_, path)
    return expected_digest(file) in {"", hash_.hexdigest()}
