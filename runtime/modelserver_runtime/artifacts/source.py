"""Where a model comes from, what may be taken from there, and what came of it."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from modelserver_runtime.errors import InvalidConfiguration

HUB = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
# What the hub allows in the name of an organisation, a user or a repository.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"(?:{_NAME}/)?{_NAME}")


class Scheme(StrEnum):
    HUB = "hf"
    CLAIM = "pvc"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUri:
    scheme: Scheme
    location: str

    @property
    def is_fetched(self) -> bool:
        """Whether the files come over the network; otherwise they are already in a directory."""
        return self.scheme is Scheme.HUB


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """`patience_seconds` is how long a hub may give no byte before a command gives up."""

    endpoint: str = HUB
    token: str | None = field(default=None, repr=False)
    patience_seconds: float = 300.0

    def page_of(self, repository: str) -> str:
        return f"{self.endpoint.rstrip('/')}/{repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPolicy:
    """What a user has consented to: loading either may run code of the model's author."""

    allow_pickle: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """`revision` is a branch, a tag or a commit; empty for the default branch."""

    uri: str
    revision: str = ""
    policy: ArtifactPolicy = field(default_factory=ArtifactPolicy)

    @property
    def repository(self) -> str:
        return repository_of(self.uri)

    @property
    def is_pinned(self) -> bool:
        return COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactSummary:
    """`revision` is a commit, or empty where there is none."""

    revision: str
    size_bytes: int
    files: int

    def as_json(self) -> dict[str, Any]:
        return {"revision": self.revision, "sizeBytes": self.size_bytes, "files": self.files}


def parse_uri(uri: str) -> ModelUri:
    scheme, separator, location = uri.partition("://")
    if not separator or scheme not in set(Scheme):
        raise InvalidConfiguration(
            f"The model URI is {uri!r}; expected hf://ORGANISATION/NAME, pvc://CLAIM/PATH or file:///PATH",
            hint="Write for example hf://Qwen/Qwen3-0.6B.",
        )
    return ModelUri(scheme=Scheme(scheme), location=location)


def repository_of(uri: str) -> str:
    """The hub's name of the repository that an `hf://` URI names."""
    parsed = parse_uri(uri)
    if not parsed.is_fetched:
        raise InvalidConfiguration(
            f"The model URI is {uri!r}; only hf:// models are fetched",
            hint="A model of pvc:// or file:// is served from its directory without being fetched.",
        )
    if not _REPOSITORY.fullmatch(parsed.location):
        raise InvalidConfiguration(
            f"The model URI is {uri!r}; after hf:// comes ORGANISATION/NAME and nothing else",
            hint="A branch, tag or commit goes into spec.model.revision.",
        )
    return parsed.location
