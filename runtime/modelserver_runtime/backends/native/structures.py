"""The structures of `matrix.h` and `decoder.c`, field by field."""

from ctypes import Structure, c_float, c_int32, c_void_p


class MatrixStructure(Structure):
    """It has either `panels` of bf16, or `integers` of 8 bits and their `scales`.

    Scales and `bias`, which may be NULL, are as many as the panels have columns.
    """

    _fields_ = (
        ("n", c_int32),
        ("k", c_int32),
        ("panels", c_void_p),
        ("integers", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
    )


class LayerStructure(Structure):
    """Pointers may be NULL but for those of the norms before and after attention."""

    _fields_ = (
        ("qkv", MatrixStructure),
        ("out", MatrixStructure),
        ("gate_up", MatrixStructure),
        ("down", MatrixStructure),
        ("input_norm", c_void_p),
        ("post_norm", c_void_p),
        ("query_norm", c_void_p),
        ("key_norm", c_void_p),
    )


class ModelStructure(Structure):
    _fields_ = (
        ("layers", c_int32),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("head", c_int32),
        ("intermediate", c_int32),
        ("vocabulary", c_int32),
        ("epsilon", c_float),
        ("scale", c_float),
        ("layer", c_void_p),
        ("final_norm", c_void_p),
        ("embedding", MatrixStructure),
        ("vocabulary_head", MatrixStructure),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("pool", c_void_p),
    )


class BatchStructure(Structure):
    _fields_ = (
        ("rows", c_int32),
        ("chosen", c_int32),
        ("token", c_void_p),
        ("position", c_void_p),
        ("sequence", c_void_p),
        ("table", c_void_p),
        ("chosen_rows", c_void_p),
        ("logits", c_void_p),
    )
