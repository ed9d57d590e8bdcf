"""Takes a program from its official release and verifies the published checksum.

Written with care; not yet run where the release hosts can be reached.
"""

import functools
import hashlib
import os
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPResponse
from pathlib import Path

from devcluster.catalog import Family, Program
from devcluster.console import say, step
from devcluster.errors import ProgramUnavailableError

_PROBE_SECONDS = 3.0
_READ_SECONDS = 60.0
_CHUNK = 1 << 20


def fetch(family: Family, program: Program, target: Path, arch: str) -> bool:
    """Return whether the program was downloaded; an unreachable host is no error."""
    if family.release is None or not is_reachable(_host(family.release.address)):
        return False
    address = _fill(family.release.address, family, program, arch)
    with (
        step(f"downloading {program.name} {family.version}"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch,
    ):
        try:
            return _fetch(family, program, target, address, arch, Path(scratch))
        except (urllib.error.URLError, TimeoutError, ConnectionError) as e:
            say(f"{address} could not be downloaded ({e}); compiling instead")
            return False


def _fetch(
    family: Family, program: Program, target: Path, address: str, arch: str, scratch: Path
) -> bool:
    release = family.release
    if release is None:
        return False
    with _open(_fill(release.checksum, family, program, arch)) as answer:
        expected = checksum_for(answer.read().decode(), address.rsplit("/", 1)[-1])
    downloaded = scratch / "download"
    found = _save(address, downloaded)
    if found != expected:
        raise ProgramUnavailableError(
            f"{address} has the sha256 {found}, but its published checksum is {expected}; the "
            "download was damaged or altered: run again, or compile it with DEVCLUSTER_OFFLINE=1"
        )
    if not release.member:
        _publish(downloaded, target)
        return True
    for sibling in family.programs:  # the archive has them all: no need to come again
        member = _fill(release.member, family, sibling, arch)
        _publish(_extract(downloaded, member, scratch / sibling.name), target.parent / sibling.name)
    return True


def _publish(file: Path, target: Path) -> None:
    file.chmod(0o755)
    file.rename(target)


def checksum_for(published: str, file_name: str) -> str:
    """The sha256 of `file_name` from a list of checksums, or the only one in the text."""
    lines = [line.split() for line in published.splitlines() if line.strip()]
    for words in lines:
        if len(words) > 1 and words[-1].lstrip("*./").rsplit("/", 1)[-1] == file_name:
            return words[0].lower()
    if len(lines) == 1 and len(lines[0][0]) == hashlib.sha256().digest_size * 2:
        return lines[0][0].lower()
    raise ProgramUnavailableError(f"the published checksums do not name {file_name}")


def _fill(template: str, family: Family, program: Program, arch: str) -> str:
    return template.format(
        program=program.name,
        version=family.version,
        number=family.version.removeprefix("v"),
        arch=arch,
    )


def _host(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/"


@functools.cache
def is_reachable(host: str) -> bool:
    """One short look per host and command: a machine without internet must not wait."""
    if os.environ.get("DEVCLUSTER_OFFLINE"):
        return False
    try:
        with _open(host, method="HEAD", timeout_seconds=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answered, if only to say that this page does not exist
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _open(
    address: str, *, method: str = "GET", timeout_seconds: float = _READ_SECONDS
) -> HTTPResponse:
    request = urllib.request.Request(address, method=method)  # noqa: S310  our own https addresses
    answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)  # noqa: S310
    return answer


def _save(address: str, path: Path) -> str:
    digest = hashlib.sha256()
    with _open(address) as answer, path.open("wb") as file:
        while chunk := answer.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _extract(archive: Path, member: str, target: Path) -> Path:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise ProgramUnavailableError(f"{archive.name} does not hold the file {member}")
        with target.open("wb") as output:
            while chunk := file.read(_CHUNK):
                output.write(chunk)
    return target
