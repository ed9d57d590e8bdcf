"""What a test hub holds, what goes wrong with it, and what it has seen."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

LARGE_FILES = (".safetensors", ".bin", ".pt", ".h5", ".onnx", ".gguf", ".msgpack")


@dataclass(frozen=True)
class Blob:
    """One file's contents; large files are addressed by SHA-256 and live on a host of their own."""

    content: bytes | Path
    is_large: bool
    size: int
    sha256: str
    git_sha1: str

    def read(self, start: int, end: int) -> bytes:
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.git_sha1


def blob_of(path: str, content: bytes | Path) -> Blob:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    for block in _blocks(content):
        sha256.update(block)
        git.update(block)
    return Blob(content, path.endswith(LARGE_FILES), size, sha256.hexdigest(), git.hexdigest())


def _blocks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


@dataclass
class Repository:
    name: str
    gated: bool = False
    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        commit = self.refs.get(revision, revision)
        return commit if commit in self.commits else None


@dataclass
class Fault:
    """What goes wrong with requests whose path matches.

    status: answers `status` with `headers`
    truncate: the file has `at` bytes only
    corrupt: byte `at` is another
    cut: the connection breaks after `at` bytes of a body
    stall: a body stops after `at` bytes until released
    slow: `at` bytes a second
    no-ranges: Range is ignored
    no-length: neither size nor ranges are told, and `at` bytes more than listed are sent
    """

    kind: Literal["status", "truncate", "corrupt", "cut", "stall", "slow", "no-ranges", "no-length"]
    path: str = "*"
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    at: int = 0
    times: int | None = None
    method: str = "*"


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    range: str
    token: str


class HubState:
    """The hub's contents, its faults, and the requests it has seen."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.accepted_licences: set[str] = set()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.released = threading.Event()
        self.stalled = threading.Event()
        # The real hub answers 401, not 404, to strangers that ask for what does not exist.
        self.hides_missing = False
        # Mirrors leave out the X-Error-Code header.
        self.names_codes = True
        # A name of this machine other than the hub's, to send large files from another origin.
        self.large_file_host = ""
        self._lock = threading.Lock()

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        branch: str = "main",
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Makes these files the whole of a new commit, and the branch point to it."""
        repository = self.repositories.setdefault(
            name, Repository(name, gated=gated, private=private)
        )
        blobs = {path: blob_of(path, content) for path, content in files.items()}
        listing = json.dumps([name, *sorted((path, blob.etag) for path, blob in blobs.items())])
        commit = hashlib.sha1(listing.encode()).hexdigest()
        repository.commits[commit] = blobs
        repository.refs[branch] = commit
        return commit

    def break_(self, kind: Any, **details: Any) -> Fault:
        fault = Fault(kind, **details)
        with self._lock:
            self.faults.append(fault)
        return fault

    def mend(self) -> None:
        with self._lock:
            self.faults.clear()
        self.released.set()

    def fault(self, method: str, path: str, *kinds: str) -> Fault | None:
        """The first fault of these kinds that meets a request; counts its uses."""
        with self._lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.times != 0 and _meets(fault, method, path):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def see(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def blob(self, sha256: str) -> Blob | None:
        every = (
            b
            for r in self.repositories.values()
            for files in r.commits.values()
            for b in files.values()
        )
        return next((blob for blob in every if blob.sha256 == sha256), None)


def _meets(fault: Fault, method: str, path: str) -> bool:
    return fnmatchcase(path, fault.path) and fnmatchcase(method, fault.method)
