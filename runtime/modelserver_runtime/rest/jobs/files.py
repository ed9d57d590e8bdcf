"""Files of clients in a directory of this process, bounded in size and time."""

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import RequestTooLarge, ResourceNotFound
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.settings import Settings

# What a file costs beside its content, so that empty ones are bounded too.
_OVERHEAD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """Times are Unix times, in seconds."""

    id: str
    owner: str
    filename: str
    purpose: str
    size: int
    created_at: int
    expires_at: int


class FileStore:
    """Each owner sees its own files only. The directory goes with the process."""

    def __init__(self, settings: Settings, wall_clock: Clock) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._files: dict[str, StoredFile] = {}
        self._writers: set[FileWriter] = set()
        self._directory: Path | None = None

    async def add(
        self, owner: str, filename: str, purpose: str, content: bytes, ttl: int | None = None
    ) -> StoredFile:
        writer = self.writer(owner, filename, purpose, ttl)
        try:
            await asyncio.to_thread(writer.write, content)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise

    def writer(
        self, owner: str, filename: str, purpose: str, ttl: int | None = None
    ) -> "FileWriter":
        """For a file that grows; it is there when it is finished."""
        self.require_room(_OVERHEAD_BYTES)
        now, longest = int(self._wall_clock()), self._settings.files_ttl_seconds
        file = StoredFile(
            id=f"file-{random_hex(12)}",
            owner=owner,
            filename=filename,
            purpose=purpose,
            size=0,
            created_at=now,
            expires_at=now + min(ttl or longest, longest),
        )
        writer = FileWriter(self, file, self._path(file.id))
        self._writers.add(writer)
        return writer

    def settle(self, writer: "FileWriter", file: StoredFile | None) -> None:
        """A writer has ended, with a file or without one."""
        self._writers.discard(writer)
        if file is not None:
            self._files[file.id] = file

    def list(self, owner: str) -> list[StoredFile]:
        """The newest first."""
        self._forget_expired()
        return [file for file in reversed(self._files.values()) if file.owner == owner]

    def find(self, owner: str, file_id: str) -> StoredFile:
        self._forget_expired()
        file = self._files.get(file_id)
        if file is None or file.owner != owner:
            raise ResourceNotFound(f"There is no file {file_id}; GET /v1/files lists yours")
        return file

    async def read(self, file: StoredFile) -> bytes:
        try:
            return await asyncio.to_thread(self._path(file.id).read_bytes)
        except FileNotFoundError as error:
            raise ResourceNotFound(f"The file {file.id} has just been deleted") from error

    def delete(self, owner: str, file_id: str) -> None:
        self._remove(self.find(owner, file_id))

    def require_room(self, size: int) -> None:
        self._forget_expired()
        most = self._settings.max_files_bytes
        used = sum(self._sizes())
        if used + size > most:
            raise RequestTooLarge(
                f"{size} bytes do not fit: files take {used} of {most} bytes; delete some, or "
                "raise MODELSERVER_MAX_FILES_BYTES"
            )

    def _sizes(self) -> Iterator[int]:
        for file in self._files.values():
            yield file.size + _OVERHEAD_BYTES
        for writer in self._writers:
            yield writer.size + _OVERHEAD_BYTES

    def _path(self, file_id: str) -> Path:
        if self._directory is None:
            parent = self._settings.files_directory
            self._directory = Path(tempfile.mkdtemp(prefix="modelserver-", dir=parent))
            weakref.finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
        return self._directory / file_id

    def _forget_expired(self) -> None:
        now = self._wall_clock()
        for file in [file for file in self._files.values() if file.expires_at <= now]:
            self._remove(file)

    def _remove(self, file: StoredFile) -> None:
        del self._files[file.id]
        self._path(file.id).unlink(missing_ok=True)


class FileWriter:
    """A file that is being written; counts from its first byte."""

    def __init__(self, store: FileStore, file: StoredFile, path: Path) -> None:
        self._store = store
        self._file = file
        self._path = path
        self._stream: BinaryIO = path.open("wb")
        self.size = 0

    def write(self, content: bytes) -> None:
        """Raises RequestTooLarge when there is no room left."""
        self._store.require_room(len(content))
        self._stream.write(content)
        self.size += len(content)

    def finish(self) -> StoredFile:
        self._stream.close()
        file = replace(self._file, size=self.size)
        self._store.settle(self, file)
        return file

    def discard(self) -> None:
        self._stream.close()
        self._path.unlink(missing_ok=True)
        self._store.settle(self, None)
