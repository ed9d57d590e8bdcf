"""Accelerators: each kind is asked through the library that would compute on it."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from modelserver_runtime.backends.hardware import Device, missing

_QNN = "onnxruntime_qnn"


def cuda() -> Sequence[Device]:
    if torch.version.hip:
        return missing("cuda", "this torch is built for ROCm")
    return _of_torch("cuda", torch.cuda, built=torch.version.cuda, library="CUDA")


def rocm() -> Sequence[Device]:
    """AMD's devices answer to the same calls as NVIDIA's."""
    if not torch.version.hip:
        return missing("rocm", "this torch is not built for ROCm")
    return _of_torch("rocm", torch.cuda, built=torch.version.hip, library="ROCm")


def xpu() -> Sequence[Device]:
    return _of_torch("xpu", torch.xpu, built=getattr(torch.version, "xpu", None), library="XPU")


def _of_torch(kind: str, module: Any, *, built: str | None, library: str) -> Sequence[Device]:
    if not built:
        return missing(kind, f"this torch is built without {library}")
    try:
        count = module.device_count() if module.is_available() else 0
    except RuntimeError as error:
        return missing(kind, f"{library} does not answer: {_first_line(error)}")
    if not count:
        return missing(kind, f"there is no device, or no driver for it ({library} {built})")
    return [_device_of_torch(kind, module, index, f"{library} {built}") for index in range(count)]


def _device_of_torch(kind: str, module: Any, index: int, version: str) -> Device:
    name = f"{kind}:{index}"
    try:
        properties = module.get_device_properties(index)
        torch.ones(1, device=torch_name(name)).add(1).cpu()
    except RuntimeError as error:
        return Device(kind=kind, name=name, reason=f"it does not compute: {_first_line(error)}")
    return Device(
        kind=kind,
        name=name,
        description=str(properties.name),
        memory_bytes=int(properties.total_memory),
        details=(version,),
    )


def mps() -> Sequence[Device]:
    if not torch.backends.mps.is_built():
        return missing("mps", "this torch is built without Metal, which only macOS has")
    if not torch.backends.mps.is_available():
        return missing("mps", "Metal has no device, or macOS is older than 12.3")
    return [Device(kind="mps", name="mps", description="Metal Performance Shaders")]


def openvino() -> Sequence[Device]:
    if importlib.util.find_spec("openvino") is None:
        return missing("openvino", "openvino is not installed (pip install modelserver[openvino])")
    try:
        library: Any = importlib.import_module("openvino")
        core = library.Core()
        names = list(core.available_devices)
        found = [_device_of_openvino(core, name, library.__version__) for name in names]
    except (ImportError, RuntimeError) as error:
        return missing("openvino", f"openvino does not answer: {_first_line(error)}")
    return found or missing("openvino", "openvino has no device here")


def _device_of_openvino(core: Any, name: str, version: str) -> Device:
    return Device(
        kind="openvino",
        name=f"openvino:{name}",
        description=str(core.get_property(name, "FULL_DEVICE_NAME")),
        details=(f"openvino {version.partition('-')[0]}",),
    )


def qnn() -> Sequence[Device]:
    """Detected only: no backend of this runtime computes with it."""
    found = list(_libraries_of_qnn())
    if not found:
        return missing("qnn", "neither onnxruntime-qnn nor Qualcomm's SDK is installed")
    reason = "no backend of this runtime computes with QNN"
    return [Device(kind="qnn", name="qnn", details=tuple(found), reason=reason)]


def _libraries_of_qnn() -> Iterator[str]:
    if importlib.util.find_spec(_QNN) is not None:
        yield "onnxruntime-qnn"
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime: Any = importlib.import_module("onnxruntime")
        if "QNNExecutionProvider" in runtime.get_available_providers():
            yield f"onnxruntime {runtime.__version__} with QNNExecutionProvider"
    if importlib.util.find_spec("qti") is not None:
        yield "Qualcomm's QNN SDK"


def torch_name(name: str) -> str:
    """How torch calls a device: AMD's are `cuda` to it."""
    return name.replace("rocm", "cuda", 1)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
