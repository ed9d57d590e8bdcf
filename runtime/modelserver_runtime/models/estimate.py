"""How much memory a model will take, read from its files before anything is loaded."""

from collections.abc import Mapping

from modelserver_runtime.artifacts import tensor_bytes
from modelserver_runtime.settings import Dtype, Settings

_FLOATS = ("F64", "F32", "F16", "BF16")
_BITS = {Dtype.FLOAT32: 32, Dtype.FLOAT16: 16, Dtype.BFLOAT16: 16, Dtype.INT8: 8}


def estimate_bytes(settings: Settings) -> int:
    """Of the weights; what computing takes beside them is part of no estimate."""
    directory = settings.model_directory
    if paths := list(directory.glob("*.safetensors")):
        bits = _element_bits(settings.dtype)
        return sum(tensor_bytes(path, element_bits=bits) for path in paths)
    return sum(path.stat().st_size for path in directory.glob("*.bin"))


def _element_bits(dtype: Dtype) -> Mapping[str, int]:
    """With `Auto`, float16 is counted as float32, as a processor computes it."""
    wanted = _BITS.get(dtype)
    return {"F16": 32} if wanted is None else dict.fromkeys(_FLOATS, wanted)
