"""What is in a model's directory, as one digest: equal for equal contents, on every machine."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from modelserver_runtime.artifacts.manifest import FOLDER, is_intact, read_manifest

# Files up to this size (configurations, tokenizers, templates) are read whole. Of larger ones,
# the weights, samples are read: hashing hundreds of gigabytes would delay the start by minutes.
_WHOLE_BYTES = 8 << 20
_SAMPLES = 64
_SAMPLE_BYTES = 64 << 10


def contents_digest(directory: Path) -> str:
    """From the verified digests of a fetch where there was one, else from the files themselves."""
    manifest = read_manifest(directory)
    if manifest is not None and is_intact(directory, manifest):
        entries = [(file.path, file.size, file.digest) for file in manifest.files]
    else:
        entries = list(_entries(directory))
    hash_ = hashlib.blake2b(digest_size=32)
    for entry in sorted(entries):
        hash_.update(repr(entry).encode())
    return hash_.hexdigest()


def _entries(directory: Path) -> Iterator[tuple[str, int, str]]:
    for path in directory.rglob("*"):
        relative = path.relative_to(directory)
        if path.is_file() and relative.parts[0] != FOLDER:
            yield str(relative), path.stat().st_size, _digest(path)


def _digest(path: Path) -> str:
    """Of the whole of a small file; of a large one, of samples and of the time of its change."""
    status = path.stat()
    if status.st_size <= _WHOLE_BYTES:
        return hashlib.blake2b(path.read_bytes()).hexdigest()
    hash_ = hashlib.blake2b(b"%d" % status.st_mtime_ns)
    with path.open("rb") as stream:
        for index in range(_SAMPLES):
            stream.seek(index * (status.st_size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            hash_.update(stream.read(_SAMPLE_BYTES))
    return hash_.hexdigest()
