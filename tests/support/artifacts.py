"""Small models as files."""

import json
import struct

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}).encode()


def safetensors_bytes(size: int, *, seed: int = 0) -> bytes:
    """A valid safetensors file with one tensor of `size` bytes."""
    header = json.dumps(
        {"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    ).encode()
    data = bytes((seed + position * 31) % 251 for position in range(256)) * (size // 256 + 1)
    return struct.pack("<Q", len(header)) + header + data[:size]


def model_files(*, size: int = 1000, seed: int = 0) -> dict[str, bytes]:
    return {
        "config.json": CONFIG,
        "tokenizer.json": json.dumps({"seed": seed}).encode(),
        "model.safetensors": safetensors_bytes(size, seed=seed),
    }
