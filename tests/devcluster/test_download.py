"""An official release is taken only if its published checksum fits."""

import hashlib
import io
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from devcluster import catalog, download
from devcluster.catalog import FamilyName, Release
from devcluster.errors import ProgramUnavailableError

PROGRAM = b"#!/bin/sh\necho program\n"


def archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(f"bin/{name}")
            member.size = len(PROGRAM)
            tar.addfile(member, io.BytesIO(PROGRAM))
    return buffer.getvalue()


@pytest.fixture
def host(monkeypatch):
    """A release host; `files` maps path to content."""
    files = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def do_HEAD(self):
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.delenv("DEVCLUSTER_OFFLINE", raising=False)
    download.is_reachable.cache_clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()
        thread.join()
    download.is_reachable.cache_clear()


def family_at(address, name, *, member=""):
    release = Release(
        address=f"{address}/{{program}}-{{version}}", checksum=f"{address}/sums", member=member
    )
    return replace(catalog.FAMILIES[name], release=release)


def fetch(family, target):
    return download.fetch(family, family.programs[0], target, "amd64")


def test_a_program_with_the_right_checksum_is_taken(host, tmp_path):
    address, files = host
    files[f"/runc-{catalog.RUNC}"] = PROGRAM
    files["/sums"] = f"{hashlib.sha256(PROGRAM).hexdigest()}  runc-{catalog.RUNC}\n".encode()
    assert fetch(family_at(address, FamilyName.RUNC), tmp_path / "runc")
    assert (tmp_path / "runc").read_bytes() == PROGRAM
    assert (tmp_path / "runc").stat().st_mode & 0o777 == 0o755
    assert list(tmp_path.iterdir()) == [tmp_path / "runc"]


def test_an_archive_gives_all_programs_of_its_family(host, tmp_path):
    address, files = host
    content = archive(["containerd", "containerd-shim-runc-v2", "ctr"])
    files[f"/containerd-{catalog.CONTAINERD}"] = content
    files["/sums"] = hashlib.sha256(content).hexdigest().encode()
    family = family_at(address, FamilyName.CONTAINERD, member="bin/{program}")
    assert fetch(family, tmp_path / "containerd")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "containerd",
        "containerd-shim-runc-v2",
        "ctr",
    ]


def test_a_wrong_checksum_is_refused_and_leaves_nothing(host, tmp_path):
    address, files = host
    files[f"/runc-{catalog.RUNC}"] = PROGRAM + b"altered"
    files["/sums"] = hashlib.sha256(PROGRAM).hexdigest().encode()
    with pytest.raises(ProgramUnavailableError, match="its published checksum is"):
        fetch(family_at(address, FamilyName.RUNC), tmp_path / "runc")
    assert not list(tmp_path.iterdir())


def test_a_release_that_is_not_there_is_no_error(host, tmp_path):
    address, _ = host
    assert not fetch(family_at(address, FamilyName.RUNC), tmp_path / "runc")


def test_a_host_that_does_not_answer_is_no_error(tmp_path):
    download.is_reachable.cache_clear()
    assert not fetch(family_at("http://127.0.0.1:9", FamilyName.RUNC), tmp_path / "runc")


def test_offline_asks_nobody(host, tmp_path, monkeypatch):
    address, files = host
    monkeypatch.setenv("DEVCLUSTER_OFFLINE", "1")
    files["/sums"] = hashlib.sha256(PROGRAM).hexdigest().encode()
    files[f"/runc-{catalog.RUNC}"] = PROGRAM
    assert not fetch(family_at(address, FamilyName.RUNC), tmp_path / "runc")
