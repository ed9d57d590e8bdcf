"""Finds the compiled `decoder.c` or `encoder.c`, or compiles it.

Images hold them compiled, beside their sources: `python -m` this module does that. Elsewhere the
first model compiles what it needs, within seconds, and keeps it in the user's cache.
"""

import argparse
import ctypes
import functools
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from ctypes import POINTER, c_int, c_void_p
from pathlib import Path

from modelserver_runtime.backends.hardware_processor import processor_flags
from modelserver_runtime.backends.native.structures import BatchStructure, ModelStructure

SOURCE = Path(__file__).with_name("decoder.c")
ENCODER_SOURCE = SOURCE.with_name("encoder.c")
# What they are compiled for: the first processors that had bf16 products without matrix tiles.
NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16")
_FLAGS = (
    *("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread"),
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512bf16", "-mfma", "-mbmi2"),
)
_COMPILE_SECONDS = 120


class DecoderUnavailable(Exception):
    """Why this machine cannot run it, as a sentence."""


@functools.cache
def load() -> ctypes.CDLL:
    """The library with its functions typed; raises DecoderUnavailable."""
    library = load_compiled(SOURCE)
    library.decoder_start.restype = c_void_p
    library.decoder_start.argtypes = [POINTER(ModelStructure), c_int, c_int, c_int]
    library.decoder_step.argtypes = [c_void_p, POINTER(BatchStructure)]
    library.decoder_step.restype = None
    library.decoder_stop.argtypes = [c_void_p]
    library.decoder_stop.restype = None
    library.decoder_pack.argtypes = [c_void_p, c_int, c_int, c_void_p]
    library.decoder_pack.restype = None
    library.decoder_pack_gated.argtypes = [c_void_p, c_void_p, c_int, c_int, c_void_p]
    library.decoder_pack_gated.restype = None
    return library


def load_compiled(source: Path) -> ctypes.CDLL:
    """The library of a C file beside this one; raises DecoderUnavailable."""
    if missing := sorted(set(NEEDED) - processor_flags()):
        raise DecoderUnavailable(f"the processor lacks {', '.join(missing)}")
    return ctypes.CDLL(str(_compiled(source)))


def compile_to(path: Path, source: Path = SOURCE) -> None:
    """Raises DecoderUnavailable with what the compiler said."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise DecoderUnavailable(f"{source.name} is not compiled and there is no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        result = subprocess.run(  # noqa: S603  the system's compiler on our own file
            [compiler, *_FLAGS, "-o", str(made), str(source), "-lm"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMPILE_SECONDS,
        )
        if result.returncode:
            raise DecoderUnavailable(f"{compiler} could not compile {source.name}: {result.stderr}")
        made.replace(path)  # at once: another process may be looking for it


def _compiled(source: Path) -> Path:
    beside = source.with_name(file_name(source))
    if beside.is_file():
        return beside
    try:
        cached = _cache_directory() / beside.name
        if not cached.is_file():
            compile_to(cached, source)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise DecoderUnavailable(f"{source.name} cannot be compiled here: {error}") from error
    return cached


def file_name(source: Path = SOURCE) -> str:
    """Changes with the source, so that an old library is never taken for a new one."""
    digest = hashlib.sha256(source.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()
    return f"{source.stem}-{platform.machine()}-{digest[:16]}.so"


def _cache_directory() -> Path:
    return Path.home() / ".cache" / "modelserver" / "native"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compiles both beside their sources.")
    parser.add_argument("--to", type=Path, default=SOURCE.parent, help="the folder it goes to")
    folder: Path = parser.parse_args().to
    try:
        for source in (SOURCE, ENCODER_SOURCE):
            compile_to(folder / file_name(source), source)
            sys.stdout.write(f"{folder / file_name(source)}\n")
    except DecoderUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
