"""llama.cpp's server, built from the source that the sdist of llama-cpp-python holds.

The package's own server takes one request after another; llama.cpp's batches them, so that it is
the peer. Compiled for this very processor.
"""

import os
import subprocess
import sys
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

from bench.environments import lock_file, locked_version
from bench.serving.model_folder import cache_folder, is_complete, mark_complete

_NAME = "llama-cpp"
_DISTRIBUTION = "llama-cpp-python"
_INSIDE = "vendor/llama.cpp/"
_CONFIGURATION = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    # Not measured, or fetched over the network.
    *(f"-DLLAMA_BUILD_{part}=OFF" for part in ("TESTS", "EXAMPLES", "APP")),
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


def llama_version() -> str:
    return locked_version(_NAME, _DISTRIBUTION)


def llama_server(say: Callable[[str], None]) -> Path:
    """The program; the first call compiles it. Needs cmake and a C++ compiler."""
    source = _folder()
    if not is_complete(source):
        say("llama.cpp: fetching its source")
        _fetch(source)
        say("llama.cpp: compiling it, which takes ten minutes on two cores")
        _build(source)
        mark_complete(source)
    return source / "build" / "bin" / "llama-server"


def gguf_file(folder: Path, say: Callable[[str], None]) -> Path:
    """The model's weights as llama.cpp reads them, written once beside them."""
    file = folder / "model.gguf"
    if not file.exists():
        say(f"llama.cpp: writing {file}")
        command = [sys.executable, "-m", "bench.generating.gguf_writer", str(folder), str(file)]
        path = os.pathsep.join([str(_folder() / "gguf-py"), os.environ.get("PYTHONPATH", "")])
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    return file


def _folder() -> Path:
    return cache_folder() / f"llama-cpp-{llama_version()}"


def _fetch(source: Path) -> None:
    """The hash is checked; its metadata need a build environment, which pip makes."""
    downloads = cache_folder() / "downloads"
    command = [str(_pip()), "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "-r", str(lock_file(_NAME))]
    subprocess.run([*command, "--dest", str(downloads)], check=True)
    [archive] = downloads.glob(f"llama_cpp_python-{llama_version()}.tar.*")
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, member.name = member.name.partition(_INSIDE)
            if member.name:
                tar.extract(member, source, filter="data")
    archive.unlink()


def _pip() -> Path:
    """Of an environment that holds nothing else."""
    folder = cache_folder() / "pip"
    if not is_complete(folder):
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
        mark_complete(folder)
    return folder / "bin" / "pip"


def _build(source: Path) -> None:
    build = source / "build"
    subprocess.run(["cmake", "-S", source, "-B", build, *_CONFIGURATION], check=True)
    jobs = str(len(os.sched_getaffinity(0)))
    command = ["cmake", "--build", build, "--target", "llama-server", "--parallel", jobs]
    subprocess.run(command, check=True)
