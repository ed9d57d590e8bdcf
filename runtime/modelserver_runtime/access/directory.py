"""Keys from files: a mounted Secret, which changes while the server runs."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelserver_runtime.access.principal import ApiKey
from modelserver_runtime.access.record import BadRecord, parse_record

log = logging.getLogger(__name__)

# Secrets are small; what is larger than this is no record but a mistake.
_LARGEST_FILE_BYTES = 64 << 10

type Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryState:
    """`keys` by file name; `problems` has a sentence for each file that cannot be used now."""

    keys: Mapping[str, ApiKey]
    problems: Mapping[str, str]


class KeyDirectory:
    """Each file is one key. A file that is broken leaves what it said before in force.

    Kubernetes changes a Secret's volume by pointing the link `..data` to a new directory: all
    files change at once, with new inodes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature: Signature | None = None
        self.state = DirectoryState(keys={}, problems={})
        self.look()

    def look(self) -> bool:
        """Reads the files if any has changed, and says whether."""
        try:
            signature = _signature(self._path)
        except OSError as error:
            self._keep(f"cannot be read: {error.strerror}")
            return False
        if signature == self._signature:
            return False
        self._signature = signature
        self._change(self._read([name for name, *_ in signature]))
        return True

    def _keep(self, problem: str) -> None:
        """The directory itself is gone; the keys stay."""
        self._signature = None
        self._change(DirectoryState(keys=self.state.keys, problems={str(self._path): problem}))

    def _read(self, names: list[str]) -> DirectoryState:
        keys: dict[str, ApiKey] = {}
        problems: dict[str, str] = {}
        owners: dict[str, str] = {}
        for name in names:
            key, problem = self._read_file(name)
            if problem:
                problems[name] = problem
            if key is None:
                continue
            if (owner := owners.setdefault(key.digest, name)) != name:
                problems[name] = f"it holds the same key as {owner}, which counts"
                continue
            keys[name] = key
        return DirectoryState(keys=keys, problems=problems)

    def _read_file(self, name: str) -> tuple[ApiKey | None, str]:
        """The key, or what was the file's key before, and why."""
        try:
            return parse_record(_text(self._path / name), name=_stem(name)), ""
        except (OSError, BadRecord) as error:
            reason = getattr(error, "strerror", None) or str(error)
        except UnicodeDecodeError:
            reason = "it is no text in UTF-8"
        last = self.state.keys.get(name)
        return last, f"{reason}; {'what it said before counts' if last else 'it gives no key'}"

    def _change(self, state: DirectoryState) -> None:
        for name, problem in state.problems.items():
            if self.state.problems.get(name) != problem:
                log.error("The key file %s is not used: %s", name, problem)
        if state.keys != self.state.keys:
            log.info("There are %d keys in %s", len(state.keys), self._path)
        self.state = state


def _signature(path: Path) -> Signature:
    """Changes with every change of a file; hidden names are those of Kubernetes and editors."""
    names = sorted(entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    found = ((name, _stat(path / name)) for name in names)
    return tuple(
        (name, stat.st_mtime_ns, stat.st_size, stat.st_ino)
        for name, stat in found
        if stat is not None
    )


def _stat(path: Path) -> os.stat_result | None:
    """None for what is no file, or was removed in between."""
    try:
        return path.stat() if path.is_file() else None
    except OSError:
        return None


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE_BYTES + 1)
    if len(content) > _LARGEST_FILE_BYTES:
        raise BadRecord(f"it is larger than {_LARGEST_FILE_BYTES} bytes")
    return content.decode()


def _stem(name: str) -> str:
    for ending in (".yaml", ".yml", ".json", ".key", ".txt"):
        name = name.removesuffix(ending)
    return name
