"""The functions and structures of `encoder.c`, field by field."""

import functools
from ctypes import CDLL, POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p

from modelserver_runtime.backends.native import library
from modelserver_runtime.backends.native.structures import MatrixStructure


class NormStructure(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class LayerStructure(Structure):
    _fields_ = (
        ("qkv", MatrixStructure),
        ("out", MatrixStructure),
        ("up", MatrixStructure),
        ("down", MatrixStructure),
        ("attended", NormStructure),
        ("finished", NormStructure),
    )


class ModelStructure(Structure):
    """`kind` and `nearness` may be NULL."""

    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("head", c_int32),
        ("intermediate", c_int32),
        ("activation", c_int32),
        ("epsilon", c_float),
        ("scale", c_float),
        ("layer", c_void_p),
        ("words", c_void_p),
        ("positions", c_void_p),
        ("kind", c_void_p),
        ("embedded", NormStructure),
        ("nearness", c_void_p),
        ("reach", c_int64),
    )


class BatchStructure(Structure):
    _fields_ = (
        ("rows", c_int32),
        ("texts", c_int32),
        ("token", c_void_p),
        ("position", c_void_p),
        ("begin", c_void_p),
        ("vectors", c_void_p),
    )


@functools.cache
def load() -> CDLL:
    """The library with its functions typed; raises DecoderUnavailable."""
    compiled = library.load_compiled(library.ENCODER_SOURCE)
    compiled.encoder_start.restype = c_void_p
    compiled.encoder_start.argtypes = [POINTER(ModelStructure), c_int, c_int, c_int]
    compiled.encoder_step.restype = None
    compiled.encoder_step.argtypes = [c_void_p, POINTER(BatchStructure)]
    compiled.encoder_stop.restype = None
    compiled.encoder_stop.argtypes = [c_void_p]
    compiled.encoder_pack.restype = None
    compiled.encoder_pack.argtypes = [c_void_p, c_int, c_int, c_void_p]
    return compiled
