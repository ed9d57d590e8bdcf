"""Fetches one file: goes on where an earlier attempt stopped, verifies, then gives it its name."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO

from modelserver_runtime.artifacts.digest import (
    Hash,
    expected_digest,
    matches,
    new_hash,
    update_from,
)
from modelserver_runtime.artifacts.hub import Body, Hub, Snapshot
from modelserver_runtime.artifacts.manifest import partial_folder
from modelserver_runtime.artifacts.patience import Abandoned, Patience, TransientFailure
from modelserver_runtime.artifacts.progress import Progress
from modelserver_runtime.artifacts.selection import RemoteFile
from modelserver_runtime.errors import ArtifactCorrupt

# Of one request. Signed addresses expire, and content networks refuse 50 GB in one piece.
PIECE_BYTES = 4 << 30


class CorruptFile(Exception):
    """What came is not what the hub announced; says what was expected and got."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloader:
    """Shared by the threads that fetch the files of one snapshot."""

    hub: Hub
    snapshot: Snapshot
    directory: Path
    progress: Progress
    stop: Event
    piece_bytes: int = PIECE_BYTES

    def fetch(self, file: RemoteFile, patience: Patience) -> None:
        if matches(self.directory / file.path, file):
            self.progress.found(file.size)
            return
        try:
            self._transfer(file, patience)
        except CorruptFile as first:
            self.progress.say(f"{file.path} is corrupt ({first}); fetching it again")
            self._transfer_again(file, patience)

    def _transfer_again(self, file: RemoteFile, patience: Patience) -> None:
        try:
            self._transfer(file, patience)
        except CorruptFile as second:
            raise ArtifactCorrupt(
                f"{file.path} of {self.snapshot.repository} at {self.snapshot.commit} "
                f"came corrupt twice: {second}",
                hint="The hub or a proxy serves a damaged file. Try later, or set "
                "spec.model.revision to another commit.",
            ) from second

    def _transfer(self, file: RemoteFile, patience: Patience) -> None:
        transfer = Transfer(self, file)
        transfer.resume()
        while not transfer.is_complete:
            patience.persist(lambda: self._next_piece(transfer, patience))
        transfer.finish()

    def _next_piece(self, transfer: "Transfer", patience: Patience) -> None:
        before = transfer.size
        try:
            transfer.fetch_piece()
        except TransientFailure:
            if transfer.size > before:
                patience.renew()
            raise
        patience.renew()


class Transfer:
    """The bytes of one file on their way, in a partial file that outlives the process."""

    def __init__(self, downloader: Downloader, file: RemoteFile) -> None:
        self._downloader = downloader
        self._file = file
        self._partial = partial_path(downloader.directory, file)
        self._hash: Hash = new_hash(file)
        self.size = 0

    @property
    def is_complete(self) -> bool:
        return self.size == self._file.size

    def resume(self) -> None:
        """Takes over what an earlier attempt has left."""
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        if not self._partial.exists():
            self._partial.touch()
        if self._partial.stat().st_size > self._file.size:
            self._partial.write_bytes(b"")
        self.size = self._partial.stat().st_size
        if self.size:
            update_from(self._hash, self._partial)
        self._downloader.progress.found(self.size)

    def fetch_piece(self) -> None:
        loader = self._downloader
        end = min(self._file.size, self.size + loader.piece_bytes)
        with loader.hub.open(loader.snapshot, self._file.path, start=self.size, end=end) as body:
            self._require_announced_size(body)
            if body.start != self.size:
                self._restart(body)
            self._receive(body)
        if self.size == end or self.is_complete:
            return
        raise TransientFailure(f"The connection ended within {self._file.path}")

    def finish(self) -> None:
        expected = expected_digest(self._file)
        got = self._hash.hexdigest()
        if expected and got != expected:
            self._discard()
            raise CorruptFile(f"expected digest {expected}, got {got}")
        target = self._downloader.directory / self._file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._partial.replace(target)

    def _require_announced_size(self, body: Body) -> None:
        if body.file_size in {None, self._file.size}:
            return
        self._discard()
        raise CorruptFile(f"expected {self._file.size} bytes, got a file of {body.file_size}")

    def _restart(self, body: Body) -> None:
        """The server knows no ranges, or sent another one."""
        if body.start:
            raise TransientFailure(
                f"The hub sent {self._file.path} from byte {body.start}, asked for {self.size}"
            )
        self._discard()
        self._partial.touch()

    def _receive(self, body: Body) -> None:
        with self._partial.open("ab", buffering=0) as stream:
            for chunk in body.chunks:
                self._accept(stream, chunk)

    def _accept(self, stream: IO[bytes], chunk: bytes) -> None:
        if self._downloader.stop.is_set():
            raise Abandoned
        if self.size + len(chunk) > self._file.size:
            self._discard()
            raise CorruptFile(f"expected {self._file.size} bytes, got more")
        self._write(stream, chunk)
        self._hash.update(chunk)
        self.size += len(chunk)
        self._downloader.progress.add(len(chunk))

    def _write(self, stream: IO[bytes], chunk: bytes) -> None:
        """An unbuffered stream may take less than it is given."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[stream.write(rest) :]

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._downloader.progress.lost(self.size)
        self._hash = new_hash(self._file)
        self.size = 0


def partial_path(directory: Path, file: RemoteFile) -> Path:
    """Named by path and contents: two equal files may be fetched at once."""
    key = f"{file.path}\0{file.size}\0{expected_digest(file)}"
    return partial_folder(directory) / hashlib.sha256(key.encode()).hexdigest()


def partial_size(directory: Path, file: RemoteFile) -> int:
    """Bytes of a file that an earlier attempt has left."""
    partial = partial_path(directory, file)
    return min(partial.stat().st_size, file.size) if partial.exists() else 0
