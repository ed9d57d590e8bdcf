"""The processor: its instruction sets, and what the control group leaves of it."""

import platform
from pathlib import Path

from modelserver_runtime.backends.hardware import Device
from modelserver_runtime.backends.machine import available_memory_bytes, usable_threads

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
# Those that kernels of matrix products choose by; Linux's names of x86 and then of ARM.
_X86 = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
)
_ARM = {"asimd": "neon", "sve": "sve", "sve2": "sve2", "bf16": "bf16", "i8mm": "i8mm", "sme": "sme"}


def processor(cpuinfo: Path = _CPUINFO) -> list[Device]:
    model, flags = _model_and_flags(cpuinfo)
    sets = instruction_sets(flags)
    threads = usable_threads()
    return [
        Device(
            kind="cpu",
            name="cpu",
            description=model or platform.processor() or platform.machine(),
            memory_bytes=_total_memory(),
            details=(
                f"instruction sets: {' '.join(sets) or 'unknown'}",
                f"{threads} threads of the control group",
                f"{available_memory_bytes()} bytes of memory free in the control group",
            ),
        )
    ]


def instruction_sets(flags: frozenset[str]) -> tuple[str, ...]:
    found = [name for name in _X86 if name in flags]
    return (*found, *(name for flag, name in _ARM.items() if flag in flags))


def processor_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Linux's names of what the processor can do."""
    return _model_and_flags(cpuinfo)[1]


def _model_and_flags(cpuinfo: Path) -> tuple[str, frozenset[str]]:
    """Of the first processor; all are alike where models are served."""
    values: dict[str, str] = {}
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.strip().lower(), value.strip())
    flags = values.get("flags") or values.get("features", "")
    return values.get("model name", ""), frozenset(flags.split())


def _total_memory() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    return sizes[0] if sizes else None
