"""What CUDA says about the accelerators in use; asks nothing before a model has been loaded."""

import sys
from collections.abc import Iterator
from typing import Any

from modelserver_runtime.observability.hardware import Accelerator

_PERCENT = 100


def cuda_devices() -> Iterator[Accelerator]:
    torch = sys.modules.get("torch")
    # Before its first use CUDA would be set up here, in a thread that has to answer quickly.
    if torch is None or not torch.cuda.is_initialized():
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        yield Accelerator(
            device=f"cuda:{index}",
            used_bytes=total - free,
            total_bytes=total,
            utilization=_utilization(torch, index),
        )


def _utilization(torch: Any, index: int) -> float | None:
    """None without NVIDIA's management library, which torch does not bring."""
    try:
        return float(torch.cuda.utilization(index)) / _PERCENT
    except (ImportError, RuntimeError):
        return None
