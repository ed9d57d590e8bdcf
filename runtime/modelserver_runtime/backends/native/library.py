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
from dataclasses import dataclass
from pathlib import Path

from modelserver_runtime.backends.hardware_processor import processor_flags
from modelserver_runtime.backends.native.structures import BatchStructure, ModelStructure

SOURCE = Path(__file__).with_name("decoder.c")
ENCODER_SOURCE = SOURCE.with_name("encoder.c")
_HEADERS = ("attention.h", "matrix.h", "products.h", "team.h", "vectors.h")
_FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-Wno-psabi", "-ffp-contract=fast")
_COMPILE_SECONDS = 120


class DecoderUnavailable(Exception):
    """Why this machine cannot run it, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """For processors of one `machine`, as Linux calls it, that have all `needed` flags.

    The first of `compilers` that is there makes it.
    """

    name: str
    machine: str
    needed: frozenset[str]
    flags: tuple[str, ...]
    compilers: tuple[str, ...] = ("clang", "cc")


_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
# The fastest first: bf16 products in one instruction; registers of 16 floats; registers of 8,
# and of 4, for which GCC 12 writes every vector to memory: four times slower than clang's code.
VARIANTS = (
    Variant(
        name="avx512-bf16",
        machine="x86_64",
        needed=frozenset({*_AVX512, "avx512_bf16"}),
        flags=(*(f"-m{flag}" for flag in _AVX512), "-mavx512bf16", "-mfma", "-mbmi2"),
    ),
    Variant(
        name="avx512",
        machine="x86_64",
        needed=frozenset({*_AVX512, "fma"}),
        flags=(*(f"-m{flag}" for flag in _AVX512), "-mfma", "-mbmi2"),
    ),
    Variant(
        name="avx2",
        machine="x86_64",
        needed=frozenset({"avx2", "fma", "bmi2"}),
        flags=("-mavx2", "-mfma", "-mbmi2"),
        compilers=("clang",),
    ),
    Variant(
        name="neon",
        machine="aarch64",
        needed=frozenset({"asimd"}),
        flags=(),
        compilers=("clang",),
    ),
)


def variant() -> Variant:
    """The fastest that this processor runs; raises DecoderUnavailable."""
    flags = processor_flags()
    for each in VARIANTS:
        if each.machine == platform.machine() and each.needed <= flags:
            return each
    names = ", ".join(each.name for each in VARIANTS)
    raise DecoderUnavailable(f"the processor has none of {names}")


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
    library.decoder_pack_integers.argtypes = [c_void_p, c_int, c_int, c_void_p, c_void_p]
    library.decoder_pack_integers.restype = None
    library.decoder_pack_gated.argtypes = [c_void_p, c_void_p, c_int, c_int, c_void_p]
    library.decoder_pack_gated.restype = None
    return library


def load_compiled(source: Path) -> ctypes.CDLL:
    """The library of a C file beside this one; raises DecoderUnavailable."""
    return ctypes.CDLL(str(_compiled(source, variant())))


def compile_to(path: Path, source: Path, chosen: Variant) -> None:
    """Raises DecoderUnavailable with the first that the compiler said."""
    compiler = next(filter(None, map(shutil.which, chosen.compilers)), None)
    if compiler is None:
        names = " or ".join(chosen.compilers)
        raise DecoderUnavailable(f"{source.name} is not compiled, and there is no {names}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        result = subprocess.run(  # noqa: S603  the system's compiler on our own file
            [compiler, *_FLAGS, *chosen.flags, "-o", str(made), str(source), "-lm"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMPILE_SECONDS,
        )
        if result.returncode:
            said = result.stderr.strip().partition("\n")[0]
            raise DecoderUnavailable(f"{compiler} could not compile {source.name}: {said}")
        made.replace(path)  # at once: another process may be looking for it


def _compiled(source: Path, chosen: Variant) -> Path:
    beside = source.with_name(file_name(source, chosen))
    if beside.is_file():
        return beside
    try:
        cached = _cache_directory() / beside.name
        if not cached.is_file():
            compile_to(cached, source, chosen)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise DecoderUnavailable(f"{source.name} cannot be compiled here: {error}") from error
    return cached


def file_name(source: Path, chosen: Variant) -> str:
    """Changes with the source, so that an old library is never taken for a new one."""
    digest = hashlib.sha256(" ".join((*_FLAGS, *chosen.flags)).encode())
    for path in (source, *(source.with_name(name) for name in _HEADERS)):
        digest.update(path.read_bytes())
    return f"{source.stem}-{chosen.name}-{digest.hexdigest()[:16]}.so"


def _cache_directory() -> Path:
    return Path.home() / ".cache" / "modelserver" / "native"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compiles both for each processor of this kind.")
    parser.add_argument("--to", type=Path, default=SOURCE.parent, help="the folder it goes to")
    folder: Path = parser.parse_args().to
    try:
        for chosen in VARIANTS:
            if chosen.machine == platform.machine():
                _compile_both(folder, chosen)
    except DecoderUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _compile_both(folder: Path, chosen: Variant) -> None:
    for source in (SOURCE, ENCODER_SOURCE):
        path = folder / file_name(source, chosen)
        compile_to(path, source, chosen)
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    sys.exit(main())
