"""A server with keys: one of each kind, in a directory as a mounted Secret is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelserver_runtime.access.secret import new_secret


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


class SecretVolume:
    """Changes as the kubelet changes it: new files in a new directory, then one link is moved."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._generation = 0
        self._files: dict[str, str] = {}
        path.mkdir()

    def write(self, files: Mapping[str, str]) -> None:
        self._generation += 1
        folder = self.path / f"..{self._generation}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        new = self.path / "..data_tmp"
        new.symlink_to(folder.name)
        new.rename(self.path / "..data")
        for name in self._files.keys() - files.keys():
            (self.path / name).unlink()
        for name in files.keys() - self._files.keys():
            (self.path / name).symlink_to(f"..data/{name}")
        self._files = dict(files)


def record(**fields: Any) -> tuple[str, str]:
    """A new key, and a file's content with its record."""
    key = new_secret()
    return key, json.dumps({"key": key, **fields})


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """The keys of `a_key_set`, by what they are for."""

    path: Path
    admin: str
    user: str
    other_model: str
    expired: str
    watcher: str
    limited: str


def a_key_set(path: Path) -> KeySet:
    kinds: dict[str, dict[str, Any]] = {
        "admin": {"scopes": ["admin"]},
        "user": {"tenant": "team"},
        "other_model": {"models": ["other", "more-*"]},
        "expired": {"expires": "2020-01-31T00:00:00Z"},
        "watcher": {"scopes": ["metrics"]},
        "limited": {"limits": {"requests_per_minute": 2}},
    }
    volume = SecretVolume(path)
    made = {name: record(**fields) for name, fields in kinds.items()}
    volume.write({name: content for name, (_, content) in made.items()})
    return KeySet(path=path, **{name: key for name, (key, _) in made.items()})
