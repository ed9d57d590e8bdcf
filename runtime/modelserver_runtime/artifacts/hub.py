"""Speaks to the hub; turns its failures into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # documented, but not in __all__
    build_hf_headers,
    hf_raise_for_status,
    parse_ratelimit_headers,
)

from modelserver_runtime.artifacts.patience import TransientFailure
from modelserver_runtime.artifacts.selection import RemoteFile
from modelserver_runtime.artifacts.source import HubAccess
from modelserver_runtime.errors import (
    ArtifactAuth,
    ArtifactNotFound,
    ArtifactUnreachable,
    InvalidConfiguration,
    StartupFailure,
)

# Seconds without a byte; the hub's own client waits without end by default.
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_RETRIED = frozenset({408, 425, 429, *range(500, 600)})
_CLIENT = "modelserver-runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One commit of a repository."""

    repository: str
    commit: str
    files: tuple[RemoteFile, ...]
    is_gated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Bytes of a file from `start` on; `file_size` is that of the whole file, if it is told."""

    start: int
    file_size: int | None
    chunks: Iterator[bytes]


class Hub:
    """Every method raises TransientFailure where trying again may help, else a StartupFailure."""

    def __init__(self, access: HubAccess) -> None:
        if not access.endpoint.startswith(("http://", "https://")):
            raise InvalidConfiguration(
                f"The hub endpoint is {access.endpoint!r}; it must start with https:// or http://",
                hint="Set MODELSERVER_HUB_ENDPOINT to a URL such as https://huggingface.co.",
            )
        self._access = access
        self._endpoint = access.endpoint.rstrip("/")
        # False, not None: never a token that lies about in the home directory.
        self._token: str | bool = access.token or False
        self._api = HfApi(endpoint=self._endpoint, token=self._token, library_name=_CLIENT)

    def snapshot(self, repository: str, revision: str) -> Snapshot:
        with self._translated(repository, revision), self._understood(repository):
            info = self._api.model_info(
                repository, revision=revision or None, files_metadata=True, timeout=30.0
            )
        if not info.sha:
            raise self._strange(f"no commit of {repository}")
        return Snapshot(
            repository=repository,
            commit=info.sha,
            files=tuple(_remote_file(sibling) for sibling in info.siblings or ()),
            is_gated=bool(info.gated),
        )

    def require_access(self, snapshot: Snapshot, path: str) -> None:
        """Asks for a file without fetching it: a gated repository lists its files to everybody."""
        with self._translated(snapshot.repository, snapshot.commit):
            response = get_session().head(
                self._url(snapshot, path),
                headers=self._headers(),
                timeout=_TIMEOUT,
                follow_redirects=False,
            )
            hf_raise_for_status(response)

    @contextmanager
    def open(self, snapshot: Snapshot, path: str, *, start: int, end: int) -> Iterator[Body]:
        """The bytes `start` to `end` (exclusive); the whole file if the server knows no ranges."""
        headers = self._headers() | {"Range": f"bytes={start}-{end - 1}"}
        with (
            self._translated(snapshot.repository, snapshot.commit),
            get_session().stream(
                "GET",
                self._url(snapshot, path),
                headers=headers,
                timeout=_TIMEOUT,
                follow_redirects=True,
            ) as response,
        ):
            if response.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                size = _size_after_slash(response.headers.get("Content-Range", ""))
                yield Body(start=start, file_size=size, chunks=iter(()))
                return
            hf_raise_for_status(response)
            yield _body_of(response)

    def _url(self, snapshot: Snapshot, path: str) -> str:
        return hf_hub_url(
            snapshot.repository, path, revision=snapshot.commit, endpoint=self._endpoint
        )

    def _headers(self) -> dict[str, str]:
        headers = build_hf_headers(token=self._token, library_name=_CLIENT)
        # A compressed answer has no length to check and no ranges.
        return {**headers, "Accept-Encoding": "identity"}

    @contextmanager
    def _translated(self, repository: str, revision: str) -> Iterator[None]:
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise ArtifactUnreachable(
                "The hub was not asked, because HF_HUB_OFFLINE is set",
                hint="Remove HF_HUB_OFFLINE from spec.runtime.env, or use a pvc:// model.",
            ) from error
        except HfHubHTTPError as error:
            raise self._failure_of(error, repository, revision) from error
        except httpx2.RequestError as error:
            raise TransientFailure(
                f"{self._endpoint} does not answer ({str(error) or type(error).__name__})"
            ) from error

    @contextmanager
    def _understood(self, repository: str) -> Iterator[None]:
        try:
            yield
        except HFValidationError as error:
            raise InvalidConfiguration(
                f"{repository!r} cannot be the name of a repository",
                hint="Write spec.model.uri as hf://ORGANISATION/NAME.",
            ) from error
        except (HfHubHTTPError, httpx2.HTTPError):
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise self._strange("something else than JSON of a model") from error

    def _strange(self, what: str) -> ArtifactUnreachable:
        return ArtifactUnreachable(
            f"{self._endpoint} answered with {what}, so it does not speak the hub's API",
            hint="Check the hub endpoint, and that no proxy answers in its place.",
        )

    def _failure_of(
        self, error: HfHubHTTPError, repository: str, revision: str
    ) -> StartupFailure | TransientFailure:
        status = error.response.status_code
        if status in _RETRIED:
            return TransientFailure(
                f"{self._endpoint} answers {status}",
                retry_after_seconds=_retry_after(error.response),
            )
        if isinstance(error, GatedRepoError) or status in {401, 403}:
            return self._denied(error, repository, status)
        if status == httpx2.codes.NOT_FOUND:
            return self._missing(error, repository, revision)
        reason = error.server_message or "no reason given"
        return self._strange(f"{status} for {repository} ({reason})")

    def _denied(self, error: HfHubHTTPError, repository: str, status: int) -> ArtifactAuth:
        page = self._access.page_of(repository)
        if isinstance(error, GatedRepoError):
            return ArtifactAuth(
                f"{repository} is gated, and the hub answered {status}",
                hint=f"Accept its licence at {page} and name the Secret that holds a token of that "
                "account in spec.model.credentials.secretRef.",
            )
        if not self._access.token:
            return ArtifactAuth(
                f"The hub answered {status} for {repository}, asked without a token: "
                "it is private or does not exist",
                hint=f"Check its name at {page}; for a private repository name the Secret that "
                "holds a token in spec.model.credentials.secretRef.",
            )
        return ArtifactAuth(
            f"The hub answered {status} for {repository}: the token of "
            "spec.model.credentials.secretRef is not accepted",
            hint="Put a valid token into the Secret, one that may read this repository.",
        )

    def _missing(self, error: HfHubHTTPError, repository: str, revision: str) -> ArtifactNotFound:
        page = self._access.page_of(repository)
        if isinstance(error, RevisionNotFoundError):
            return ArtifactNotFound(
                f"{repository} has no revision {revision!r}",
                hint=f"Set spec.model.revision to a branch, tag or commit of {page}/commits/main.",
            )
        if isinstance(error, RemoteEntryNotFoundError):
            name = error.request.url.path.rpartition("/")[2]
            return ArtifactNotFound(
                f"{repository} lists {name} at {revision}, but does not have it",
                hint="Try again, or set spec.model.revision to another commit.",
            )
        return ArtifactNotFound(
            f"The repository {repository} does not exist at {self._endpoint}",
            hint=f"Check spec.model.uri: hf://{repository} should open in a browser as {page}.",
        )


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    return RemoteFile(
        path=sibling.rfilename,
        size=(lfs.size if lfs else sibling.size) or 0,
        sha256=lfs.sha256 if lfs else "",
        git_blob="" if lfs else sibling.blob_id or "",
    )


def _body_of(response: httpx2.Response) -> Body:
    content_range = response.headers.get("Content-Range", "")
    # As they come: bytes collected for a larger chunk would be lost when the connection breaks.
    chunks = response.iter_bytes()
    if response.status_code == httpx2.codes.PARTIAL_CONTENT:
        start = int(content_range.removeprefix("bytes ").partition("-")[0])
        return Body(start=start, file_size=_size_after_slash(content_range), chunks=chunks)
    is_compressed = response.headers.get("Content-Encoding", "identity") != "identity"
    length = response.headers.get("Content-Length")
    size = int(length) if length and not is_compressed else None
    return Body(start=0, file_size=size, chunks=chunks)


def _size_after_slash(content_range: str) -> int | None:
    size = content_range.rpartition("/")[2]
    return int(size) if size.isdecimal() else None


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds; an HTTP date, which hubs do not send, counts as no wish."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == httpx2.codes.TOO_MANY_REQUESTS and limit and not limit.remaining:
        return float(limit.reset_in_seconds)
    wish = response.headers.get("Retry-After", "")
    return float(wish) if wish.isdecimal() else None
