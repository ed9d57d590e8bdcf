"""The part of the hub's HTTP API that huggingface_hub uses."""

import contextlib
import hashlib
import json
import re
import socket
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_contents import Blob, Fault, HubState, Repository, Seen

CHUNK_BYTES = 64 * 1024
PAGE_ENTRIES = 1000


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], hub: HubState) -> None:
        self.hub = hub
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed in the middle of a body is what some tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    ROUTES = (
        (r"/api/models/(?P<name>.+)/revision/(?P<revision>[^/]+)", "_model"),
        (r"/api/models/(?P<name>.+)/tree/(?P<revision>[^/]+)(/(?P<folder>.*))?", "_tree"),
        (r"/api/models/(?P<name>.+)/paths-info/(?P<revision>[^/]+)", "_paths_info"),
        (r"/api/models/(?P<name>.+)/auth-check", "_auth_check"),
        (r"/api/models/(?P<name>.+)/refs", "_refs"),
        (r"/api/models/(?P<name>.+)", "_model"),
        (r"/_large/(?P<commit>[0-9a-f]{40})/(?P<sha256>[0-9a-f]{64})/(?P<path>.+)", "_large_file"),
        (r"/_faults", "_control"),
        (r"/_health", "_health"),
        (r"/(?P<name>.+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "_resolve"),
    )

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    @property
    def hub(self) -> HubState:
        return self.server.hub

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.hub.see(Seen(self.command, path, self.headers.get("Range", ""), token))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path != "/_faults" and (fault := self.hub.fault(self.command, path, "status")):
            self._json({"error": "a fault"}, status=fault.status, headers=fault.headers)
            return
        try:
            self._route(path)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self._json(
                {"error": str(refused)},
                status=refused.status,
                headers=headers if self.hub.names_codes else {},
            )

    def _route(self, path: str) -> None:
        for pattern, method in self.ROUTES:
            if match := re.fullmatch(pattern, path):
                groups = {key: unquote(value or "") for key, value in match.groupdict().items()}
                getattr(self, method)(**groups)
                return
        raise _Refused(404, "", f"no route {path}")

    # The API: what there is.

    def _model(self, name: str, revision: str = "main") -> None:
        repository, commit = self._find(name, revision)
        files = repository.commits[commit]
        with_blobs = "blobs" in parse_qs(urlsplit(self.path).query)
        self._json(
            {
                "_id": "0",
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "tags": ["transformers", "safetensors"],
                "siblings": [_sibling(path, blob, with_blobs) for path, blob in files.items()],
            }
        )

    def _tree(self, name: str, revision: str, folder: str = "") -> None:
        repository, commit = self._find(name, revision)
        query = parse_qs(urlsplit(self.path).query)
        entries = _tree_entries(
            repository.commits[commit], folder, query.get("recursive") == ["true"]
        )
        first = int(query.get("cursor", ["0"])[0])
        headers = {}
        if first + PAGE_ENTRIES < len(entries):
            here = self._origin() + self.path.partition("&cursor=")[0]
            headers["Link"] = f'<{here}&cursor={first + PAGE_ENTRIES}>; rel="next"'
        self._json(entries[first : first + PAGE_ENTRIES], headers=headers)

    def _paths_info(self, name: str, revision: str) -> None:
        repository, commit = self._find(name, revision)
        entries = _tree_entries(repository.commits[commit], "", True)
        asked = set(parse_qs(self.body.decode()).get("paths", []))
        self._json([entry for entry in entries if entry["path"] in asked])

    def _refs(self, name: str) -> None:
        repository, _ = self._find(name, "main")
        branches = [
            {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit}
            for branch, commit in repository.refs.items()
        ]
        self._json({"branches": branches, "tags": [], "converts": []})

    def _auth_check(self, name: str) -> None:
        repository, _ = self._find(name, "main")
        self._require_licence(repository)
        self._json({})

    def _find(self, name: str, revision: str) -> tuple[Repository, str]:
        self._require_valid_token()
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._token()):
            is_hidden = self.hub.hides_missing or repository is not None
            status = 401 if is_hidden and not self._token() else 404
            raise _Refused(status, "RepoNotFound", "Repository not found")
        commit = repository.commit_of(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _require_valid_token(self) -> None:
        if self._token() and self._token() not in self.hub.tokens:
            raise _Refused(401, "", "Invalid credentials in Authorization header")

    def _require_licence(self, repository: Repository) -> None:
        if repository.gated and self._token() not in self.hub.accepted_licences:
            status = 403 if self._token() else 401
            raise _Refused(status, "GatedRepo", f"Access to model {repository.name} is restricted")

    # The files.

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository, commit = self._find(name, revision)
        self._require_licence(repository)
        blob = repository.commits[commit].get(path)
        if blob is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if not blob.is_large:
            self._send_blob(blob, headers)
            return
        headers |= {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
        location = f"{self._large_origin()}/_large/{commit}/{blob.sha256}/{path}"
        self._send(302, {**headers, "Location": location, "Content-Length": "0"})

    def _large_file(self, commit: str, sha256: str, path: str) -> None:  # noqa: ARG002  faults match it
        if self.hub.large_file_host and self.headers.get("Authorization"):
            raise _Refused(400, "", "Only one auth mechanism allowed")
        blob = self.hub.blob(sha256)
        if blob is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        # A client follows a redirect within the hub, and then wants to see the hub's headers.
        self._send_blob(
            blob, headers if self.hub.large_file_host else headers | {"X-Repo-Commit": commit}
        )

    def _send_blob(self, blob: Blob, headers: dict[str, str]) -> None:
        path = urlsplit(self.path).path
        short = self.hub.fault(self.command, path, "truncate") if self.command == "GET" else None
        size = min(short.at, blob.size) if short else blob.size
        asked = self.headers.get("Range", "")
        plain = self.hub.fault(self.command, path, "no-ranges", "no-length")
        if plain and plain.kind == "no-length":
            self.close_connection = True
            self._send(200, headers | {"Connection": "close"})
            self._send_body(blob, 0, size + plain.at)
            return
        start, end = _range(asked, size) if asked and not plain else (0, size)
        if start >= size and size:
            self._send(416, headers | {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        if asked and not plain:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(
            206 if asked and not plain else 200, headers | {"Content-Length": str(end - start)}
        )
        self._send_body(blob, start, end)

    def _send_body(self, blob: Blob, start: int, end: int) -> None:
        if self.command == "HEAD":
            return
        path = urlsplit(self.path).path
        wrong = self.hub.fault(self.command, path, "corrupt")
        hindered = self.hub.fault(self.command, path, "cut", "stall", "slow")
        sent = 0
        for position in range(start, end, CHUNK_BYTES):
            block = _spoiled(blob.read(position, min(end, position + CHUNK_BYTES)), position, wrong)
            if hindered and not self._hinder(hindered, block, sent):
                return
            self.wfile.write(block[self._written :] if hindered else block)
            sent += len(block)

    _written = 0

    def _hinder(self, fault: Fault, block: bytes, sent: int) -> bool:
        """Whether the rest of the body is sent; remembers how much of the block has gone out."""
        self._written = 0
        if fault.kind == "slow":
            # Waits on an event that `mend` sets, so that a slow hub can be made fast at once.
            self.hub.released.wait(len(block) / max(1, fault.at))
            return True
        if sent + len(block) < fault.at or (fault.kind == "stall" and self.hub.released.is_set()):
            return True
        self._written = max(0, fault.at - sent)
        self.wfile.write(block[: self._written])
        self.wfile.flush()
        if fault.kind == "cut":
            self.close_connection = True
            return False
        self.hub.stalled.set()
        self.hub.released.wait()
        return True

    # Control and plumbing.

    def _control(self) -> None:
        if self.command == "DELETE":
            self.hub.mend()
        elif self.command == "POST":
            self.hub.released.clear()
            for fault in json.loads(self.body):
                self.hub.break_(**fault)
        self._json([vars(fault) for fault in self.hub.faults])

    def _health(self) -> None:
        self._json({"repositories": sorted(self.hub.repositories)})

    def _origin(self) -> str:
        return f"http://{self.headers.get('Host')}"

    def _large_origin(self) -> str:
        if not self.hub.large_file_host:
            return self._origin()
        return f"http://{self.hub.large_file_host}:{self.server.server_address[1]}"

    def _json(
        self, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        self._send(
            status,
            {
                "Content-Type": "application/json",
                "Content-Length": str(len(content)),
                **(headers or {}),
            },
        )
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """`Hub.seen` is the log."""


def _range(header: str, size: int) -> tuple[int, int]:
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(first), min(size, int(last) + 1 if last else size)


def _spoiled(block: bytes, position: int, fault: Fault | None) -> bytes:
    if fault is None or not position <= fault.at < position + len(block):
        return block
    index = fault.at - position
    return block[:index] + bytes([block[index] ^ 0xFF]) + block[index + 1 :]


def _sibling(path: str, blob: Blob, with_blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if with_blobs:
        sibling |= {"size": blob.size, "blobId": blob.git_sha1}
        if blob.is_large:
            sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}
    return sibling


def _tree_entries(files: Mapping[str, Blob], folder: str, recursive: bool) -> list[dict[str, Any]]:
    prefix = f"{folder}/" if folder else ""
    inside = {path: blob for path, blob in sorted(files.items()) if path.startswith(prefix)}
    folders = {
        "/".join(path.split("/")[:depth])
        for path in inside
        for depth in range(prefix.count("/") + 1, path.count("/") + 1)
    }
    entries = [
        {
            "type": "directory",
            "path": path,
            "oid": hashlib.sha1(path.encode()).hexdigest(),
            "size": 0,
        }
        for path in sorted(folders)
    ]
    entries += [_tree_file(path, blob) for path, blob in inside.items()]
    return [
        entry
        for entry in entries
        if recursive or "/" not in str(entry["path"]).removeprefix(prefix)
    ]


def _tree_file(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.git_sha1}
    if blob.is_large:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry
