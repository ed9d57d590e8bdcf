"""Resolves what a model's revision is, and brings its files into a directory."""

import errno
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from modelserver_runtime.artifacts.digest import expected_digest
from modelserver_runtime.artifacts.directory import check_directory
from modelserver_runtime.artifacts.download import PIECE_BYTES, Downloader, partial_size
from modelserver_runtime.artifacts.hub import Hub, Snapshot
from modelserver_runtime.artifacts.manifest import (
    Manifest,
    ManifestFile,
    is_intact,
    read_manifest,
    remove_others,
    remove_partials,
    write_manifest,
)
from modelserver_runtime.artifacts.patience import Pace, Patience
from modelserver_runtime.artifacts.progress import Progress
from modelserver_runtime.artifacts.selection import CONFIG, RemoteFile, select
from modelserver_runtime.artifacts.source import (
    ArtifactPolicy,
    ArtifactSummary,
    HubAccess,
    ModelSource,
)
from modelserver_runtime.errors import ArtifactRefused, DiskFull

# Files at once: enough to fill a fast link with shards, few enough for a hub's rate limit.
_WORKERS = 4
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What tests turn smaller."""

    pace: Pace = field(default_factory=Pace)
    piece_bytes: int = PIECE_BYTES
    workers: int = _WORKERS


def resolve(
    source: ModelSource, *, hub: HubAccess, progress: Progress, tuning: Tuning | None = None
) -> ArtifactSummary:
    """The commit behind a source's revision, and what fetching it would bring; fetches nothing."""
    session = _Session(hub, progress, tuning or Tuning())
    snapshot, files = session.choose(source)
    return _manifest(snapshot, files, source.policy).summary


def fetch(
    source: ModelSource,
    *,
    directory: Path,
    hub: HubAccess,
    progress: Progress,
    tuning: Tuning | None = None,
) -> ArtifactSummary:
    """Brings the files of one commit into `directory`; asks nobody if they are there.

    May be killed at any time and called again: it goes on with what is there.
    """
    former = read_manifest(directory)
    if former and _is_wanted(former, source) and is_intact(directory, former):
        progress.expect(former.summary.size_bytes)
        progress.found(former.summary.size_bytes)
        return former.summary
    session = _Session(hub, progress, tuning or Tuning())
    snapshot, files = session.choose(source)
    manifest = _manifest(snapshot, files, source.policy)
    remove_others(directory, former=former, wanted=manifest)
    with _full_disk_told(directory, files):
        write_manifest(directory, manifest)
        session.bring(snapshot, files, directory)
        check_directory(directory, policy=source.policy)
        write_manifest(directory, replace(manifest, is_complete=True))
    remove_partials(directory)
    return manifest.summary


def _is_wanted(manifest: Manifest, source: ModelSource) -> bool:
    """A branch or tag may have moved, so only a commit is the same without asking."""
    return source.is_pinned and (manifest.repository, manifest.revision, manifest.policy) == (
        source.repository,
        source.revision,
        source.policy,
    )


class _Session:
    """One conversation with the hub."""

    def __init__(self, access: HubAccess, progress: Progress, tuning: Tuning) -> None:
        self._access = access
        self._hub = Hub(access)
        self._progress = progress
        self._tuning = tuning
        self._stop = Event()

    def choose(self, source: ModelSource) -> tuple[Snapshot, Sequence[RemoteFile]]:
        """The commit and those of its files that make the model."""
        repository = source.repository
        if source.policy.trust_remote_code and not source.is_pinned:
            raise ArtifactRefused(
                f"Code of {repository} may only be trusted at a commit; "
                f"the revision is {source.revision!r}",
                hint="Set spec.model.revision to the 40 hexadecimal digits of a commit.",
            )
        patience = self._patience()
        snapshot = patience.persist(lambda: self._hub.snapshot(repository, source.revision))
        files = select(snapshot.files, policy=source.policy, repository=repository)
        if snapshot.is_gated:
            patience.persist(lambda: self._hub.require_access(snapshot, CONFIG))
        return snapshot, files

    def bring(self, snapshot: Snapshot, files: Sequence[RemoteFile], directory: Path) -> None:
        _require_space(directory, files)
        self._progress.expect(sum(file.size for file in files))
        self._progress.say(f"Fetching {len(files)} files of {snapshot.repository}")
        downloader = Downloader(
            hub=self._hub,
            snapshot=snapshot,
            directory=directory,
            progress=self._progress,
            stop=self._stop,
            piece_bytes=self._tuning.piece_bytes,
        )
        # The largest first, so that the last thread does not start on it when the others are done.
        ordered = sorted(files, key=lambda file: file.size, reverse=True)
        with ThreadPoolExecutor(self._tuning.workers, thread_name_prefix="fetch") as threads:
            futures = [threads.submit(downloader.fetch, file, self._patience()) for file in ordered]
            self._await(futures)
        self._progress.say("")

    def _await(self, futures: Sequence[Future[None]]) -> None:
        """Waits for all files; the first failure stops the others and is raised."""
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            self._stop.set()
            for future in futures:
                future.cancel()
            raise

    def _patience(self) -> Patience:
        return Patience(
            self._access.patience_seconds,
            announce=self._progress.say,
            stop=self._stop,
            pace=self._tuning.pace,
        )


def _require_space(directory: Path, files: Iterable[RemoteFile]) -> None:
    if _missing_bytes(directory, files) > shutil.disk_usage(directory).free:
        raise _disk_full(directory, files)


@contextmanager
def _full_disk_told(directory: Path, files: Iterable[RemoteFile]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise _disk_full(directory, files) from error


def _disk_full(directory: Path, files: Iterable[RemoteFile]) -> DiskFull:
    needed, available = _missing_bytes(directory, files), shutil.disk_usage(directory).free
    return DiskFull(
        f"{directory} needs {needed} more bytes for the model and has {available} available",
        hint="Give the node or the volume more space, or raise the ephemeral-storage limit in "
        "spec.resources.",
    )


def _missing_bytes(directory: Path, files: Iterable[RemoteFile]) -> int:
    return sum(max(0, file.size - _present_bytes(directory, file)) for file in files)


def _present_bytes(directory: Path, file: RemoteFile) -> int:
    path = directory / file.path
    return path.stat().st_size if path.is_file() else partial_size(directory, file)


def _manifest(snapshot: Snapshot, files: Iterable[RemoteFile], policy: ArtifactPolicy) -> Manifest:
    return Manifest(
        repository=snapshot.repository,
        revision=snapshot.commit,
        policy=policy,
        files=tuple(
            ManifestFile(path=file.path, size=file.size, digest=expected_digest(file))
            for file in files
        ),
        is_complete=False,
    )
