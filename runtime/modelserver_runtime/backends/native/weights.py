"""Whether the decoder can compute a model of transformers, and the weights as it reads them."""

from collections.abc import Callable, Iterator
from ctypes import Array, addressof
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelserver_runtime.backends.native import library
from modelserver_runtime.backends.native.arena import Arena
from modelserver_runtime.backends.native.structures import (
    LayerStructure,
    MatrixStructure,
    ModelStructure,
)

# Those whose layers are norm, attention with rotated positions, norm, gated product; nothing else.
_CLASSES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
# Positions that do not depend on how long the sequence becomes.
_ROTATIONS = {"default", "linear", "llama3", "yarn"}
_ACTIVATIONS = {"silu", "swish"}
# As in decoder.c: a panel's columns, the lanes of a register, and the rows that fit into registers.
_PANEL, _LANES, _MOST_ROWS = 32, 16, 12
_MOST_HEAD_WIDTH = 256
_LINE = 32  # numbers of bf16 in a line of the cache
_BF16_BYTES = 2


def objection(model: PreTrainedModel) -> str:
    """Why the decoder cannot compute this model; empty if it can."""
    return next(_objections(model), "")


def _objections(model: PreTrainedModel) -> Iterator[str]:
    config: Any = model.config
    if type(model).__name__ not in _CLASSES:
        yield f"{type(model).__name__} is not one of {', '.join(sorted(_CLASSES))}"
        return
    if model.dtype is not torch.bfloat16:
        yield f"its dtype is {str(model.dtype).removeprefix('torch.')}, not bfloat16"
    if getattr(config, "quantization_config", None) is not None:
        yield "its weights are quantized"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        yield "some of its layers see a window only"
    if getattr(config, "sliding_window", None) and not hasattr(config, "layer_types"):
        yield "its layers see a window only"
    if config.hidden_act not in _ACTIVATIONS:
        yield f"its activation is {config.hidden_act}"
    if getattr(config, "mlp_bias", False):
        yield "its gated products have biases"
    yield from _objections_to_positions(model)
    yield from _objections_to_sizes(config, head_width(config))


def _objections_to_positions(model: PreTrainedModel) -> Iterator[str]:
    inner: Any = model.model
    kind = getattr(inner.rotary_emb, "rope_type", "default")
    if kind not in _ROTATIONS:
        yield f"its positions are rotated by {kind}"
    if 2 * inner.rotary_emb.inv_freq.numel() != head_width(model.config):
        yield "only a part of each head is rotated"


def _objections_to_sizes(config: Any, head: int) -> Iterator[str]:
    if head % _PANEL or head > _MOST_HEAD_WIDTH:
        yield f"its heads are {head} wide, not a multiple of {_PANEL} up to {_MOST_HEAD_WIDTH}"
    if config.hidden_size % _LANES or config.intermediate_size % _LANES:
        yield f"its widths are not multiples of {_LANES}"
    if config.num_attention_heads > _MOST_ROWS * config.num_key_value_heads:
        yield f"more than {_MOST_ROWS} of its heads share one head of keys"


def head_width(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


class PackedModel:
    """The structure that the decoder reads, and the memory behind its pointers.

    Takes the weights out of the model, layer by layer, so that they are never there twice.
    `as_integers` are of 8 bits, with one scale for each column of a matrix; of words that come in
    bf16 is kept as well.
    """

    def __init__(
        self, model: PreTrainedModel, *, most_positions: int, as_integers: bool = False
    ) -> None:
        self._as_integers = as_integers
        self._floating: list[Tensor] = []
        self._arena = Arena()
        self._cache: NDArray[np.uint16] | None = None
        config: Any = model.config
        inner: Any = model.model
        cosine, sine = _rotations(inner.rotary_emb, most_positions)
        embedding = self._packed(inner.embed_tokens.weight, self._arena)
        is_tied = model.lm_head.weight.data_ptr() == inner.embed_tokens.weight.data_ptr()
        self._layers = self._packed_layers(inner.layers)
        self.structure = ModelStructure(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head=head_width(config),
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            epsilon=config.rms_norm_eps,
            scale=inner.layers[0].self_attn.scaling,
            layer=addressof(self._layers),
            final_norm=self._floats(inner.norm.weight),
            embedding=embedding,
            vocabulary_head=embedding
            if is_tied and not as_integers
            else self._product(partial(self._packed, model.lm_head.weight)),
            cosine=self._floats(cosine),
            sine=self._floats(sine),
        )
        model.to("meta")  # type: ignore[arg-type]  # transformers types `to` for devices too narrowly

    @property
    def dtype(self) -> str:
        """Of the weights in products, by torch's name."""
        return "int8" if self._as_integers else "bfloat16"

    @property
    def memory_bytes(self) -> int:
        return self._arena.used_bytes + sum(tensor.nbytes for tensor in self._floating)

    @property
    def block_elements(self) -> int:
        """bf16 numbers of one token's keys and values in all layers."""
        shape = self.structure
        return int(2 * shape.layers * shape.kv_heads * shape.head)

    def reserve(self, blocks: int, block_tokens: int) -> None:
        """Memory for keys and values; the system gives it page by page, when it is written."""
        self._cache = np.zeros(blocks * block_tokens * self.block_elements + _LINE, np.uint16)
        self.structure.pool = self._cache.ctypes.data + -self._cache.ctypes.data % (2 * _LINE)

    def _packed_layers(self, layers: nn.ModuleList) -> Array[LayerStructure]:
        packed = (LayerStructure * len(layers))()
        for structure, layer in zip(packed, layers, strict=True):
            self._fill(structure, layer)
            layer.to("meta")
        return packed

    def _fill(self, structure: LayerStructure, layer: Any) -> None:
        attention, gated = layer.self_attn, layer.mlp
        inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
        structure.qkv = self._product(
            partial(self._packed, torch.cat([part.weight for part in inputs]))
        )
        structure.out = self._product(partial(self._packed, attention.o_proj.weight))
        structure.gate_up = self._product(
            partial(self._packed_gated, gated.gate_proj.weight, gated.up_proj.weight)
        )
        structure.down = self._product(partial(self._packed, gated.down_proj.weight))
        structure.input_norm = self._floats(layer.input_layernorm.weight)
        structure.post_norm = self._floats(layer.post_attention_layernorm.weight)
        if attention.q_proj.bias is not None:
            structure.qkv.bias = self._bias(torch.cat([part.bias for part in inputs]))
        if attention.o_proj.bias is not None:
            structure.out.bias = self._bias(attention.o_proj.bias)
        if hasattr(attention, "q_norm"):
            structure.query_norm = self._floats(attention.q_norm.weight)
            structure.key_norm = self._floats(attention.k_norm.weight)

    @staticmethod
    def _packed(weight: Tensor, arena: Arena) -> MatrixStructure:
        rows, columns = weight.shape
        target = arena.take(_BF16_BYTES * -(-rows // _PANEL) * _PANEL * columns)
        source = weight.detach().contiguous()
        library.load().decoder_pack(source.data_ptr(), rows, columns, target)
        return MatrixStructure(n=rows, k=columns, panels=target)

    @staticmethod
    def _packed_gated(gate: Tensor, up: Tensor, arena: Arena) -> MatrixStructure:
        rows, columns = gate.shape
        target = arena.take(_BF16_BYTES * 2 * rows * columns)
        sources = [part.detach().contiguous() for part in (gate, up)]
        pointers = [source.data_ptr() for source in sources]
        library.load().decoder_pack_gated(*pointers, rows, columns, target)
        return MatrixStructure(n=2 * rows, k=columns, panels=target)

    def _product(self, pack: Callable[[Arena], MatrixStructure]) -> MatrixStructure:
        """As it is multiplied: what is packed, or integers in place of it."""
        if not self._as_integers:
            return pack(self._arena)
        scratch = Arena()
        matrix = pack(scratch)
        columns = -(-matrix.n // _PANEL) * _PANEL
        integers = self._arena.take(columns * matrix.k)
        scales = torch.empty(columns)
        self._floating.append(scales)
        library.load().decoder_pack_integers(
            matrix.panels, matrix.n, matrix.k, integers, scales.data_ptr()
        )
        return MatrixStructure(n=matrix.n, k=matrix.k, integers=integers, scales=scales.data_ptr())

    def _bias(self, values: Tensor) -> int:
        """With zeros for the columns that a last panel has too many."""
        return self._floats(nn.functional.pad(values, (0, -values.numel() % _PANEL)))

    def _floats(self, values: Tensor) -> int:
        """Norms, biases and rotations are few: they stay as exact as they are."""
        kept = values.detach().float().contiguous()
        self._floating.append(kept)
        return kept.data_ptr()


def _rotations(rotary: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Of every position: [positions, head / 2]; both halves of a head are rotated alike."""
    cosine, sine = rotary(torch.zeros(1, dtype=torch.float32), torch.arange(positions)[None])
    half = cosine.shape[-1] // 2
    return cosine[0, :, :half], sine[0, :, :half]
