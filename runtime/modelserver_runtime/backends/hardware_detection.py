"""Asks for every kind of device, once in the life of the process."""

from functools import cache

from modelserver_runtime.backends.hardware import Detector, Device, detect
from modelserver_runtime.backends.hardware_accelerators import cuda, mps, openvino, qnn, rocm, xpu
from modelserver_runtime.backends.hardware_processor import processor

DETECTORS: tuple[Detector, ...] = (cuda, rocm, xpu, mps, openvino, qnn, processor)


@cache
def detected() -> tuple[Device, ...]:
    return detect(DETECTORS)
