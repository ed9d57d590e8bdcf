"""Whether the encoder can compute a model of transformers, and the weights as it reads them."""

from collections.abc import Iterator, Mapping, Sequence
from ctypes import Array, addressof
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelserver_runtime.backends.native import encoder_library
from modelserver_runtime.backends.native.encoder_library import (
    LayerStructure,
    MatrixStructure,
    ModelStructure,
    NormStructure,
)

# As in encoder.c: by the names of transformers. `gelu_new` and the others are by tanh.
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_PANEL = 32  # as in encoder.c: the columns of a panel
_ALIGNMENT = 64  # bytes: a line of the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a class of models keeps what a layer of all of them has; names inside a layer."""

    layers: str
    qkv: Sequence[str]
    out: str
    attended: str
    up: str
    down: str
    finished: str


_BERT = _Layout(
    layers="encoder.layer",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attended="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    finished="output.LayerNorm",
)
# Those whose layers are attention, norm, product, norm, each with what it began from; nothing else.
_LAYOUTS: Mapping[str, _Layout] = {
    "BertModel": _BERT,
    "RobertaModel": _BERT,
    "XLMRobertaModel": _BERT,
    "CamembertModel": _BERT,
}


def objection(model: PreTrainedModel) -> str:
    """Why the encoder cannot compute this model; empty if it can."""
    return next(_objections(model), "")


def _objections(model: PreTrainedModel) -> Iterator[str]:
    config: Any = model.config
    name = type(model).__name__
    if name not in _LAYOUTS:
        yield f"{name} is not one of {', '.join(_LAYOUTS)}"
        return
    if getattr(config, "quantization_config", None) is not None:
        yield "its weights are quantized"
    if config.is_decoder or getattr(config, "add_cross_attention", False):
        yield "its tokens do not see those after them"
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        yield f"its positions are {config.position_embedding_type}"
    if config.hidden_act not in _ACTIVATIONS:
        yield f"its activation is {config.hidden_act}"
    yield from _objections_to_sizes(config)


def _objections_to_sizes(config: Any) -> Iterator[str]:
    head = config.hidden_size // config.num_attention_heads
    if head % _PANEL or config.intermediate_size % _PANEL:
        yield (
            f"its heads are {head} and its inner layers {config.intermediate_size} wide, not "
            f"multiples of {_PANEL}"
        )


class PackedEncoder:
    """The structure that the encoder reads, and the memory behind its pointers.

    The model keeps its own weights until `release`: before, both can be compared.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._kept: list[Tensor | NDArray[np.uint16]] = []
        self._model = model
        self._layout = _LAYOUTS[type(model).__name__]
        config: Any = model.config
        embeddings: Any = model.embeddings
        padding = embeddings.position_embeddings.padding_idx
        # Models of the RoBERTa kind count positions from their padding token's id on.
        self.first_position = 0 if padding is None else padding + 1
        self._layers = self._packed_layers()
        head = config.hidden_size // config.num_attention_heads
        self.structure = ModelStructure(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            head=head,
            intermediate=config.intermediate_size,
            activation=_ACTIVATIONS[config.hidden_act],
            epsilon=config.layer_norm_eps,
            scale=head**-0.5,
            layer=addressof(self._layers),
            words=self._floats(embeddings.word_embeddings.weight),
            positions=self._floats(embeddings.position_embeddings.weight),
            kind=self._floats(embeddings.token_type_embeddings.weight[0]),
            embedded=self._norm(embeddings.LayerNorm),
        )

    def release(self) -> None:
        """Takes the weights out of the model; the tables of embeddings are shared, not copied."""
        self._model.to("meta")  # type: ignore[arg-type]  # transformers types it too narrowly

    def _packed_layers(self) -> Array[LayerStructure]:
        layers = attrgetter(self._layout.layers)(self._model)
        packed = (LayerStructure * len(layers))()
        for structure, layer in zip(packed, layers, strict=True):
            self._fill(structure, layer)
        return packed

    def _fill(self, structure: LayerStructure, layer: nn.Module) -> None:
        layout = self._layout
        inputs = [attrgetter(name)(layer) for name in layout.qkv]
        structure.qkv = self._packed(
            torch.cat([part.weight for part in inputs]), torch.cat([part.bias for part in inputs])
        )
        for field in ("out", "up", "down"):
            part = attrgetter(getattr(layout, field))(layer)
            setattr(structure, field, self._packed(part.weight, part.bias))
        structure.attended = self._norm(attrgetter(layout.attended)(layer))
        structure.finished = self._norm(attrgetter(layout.finished)(layer))

    def _packed(self, weight: Tensor, bias: Tensor) -> MatrixStructure:
        columns, rows = weight.shape
        target = self._aligned(weight.numel())
        source = weight.detach().to(torch.bfloat16).contiguous()
        encoder_library.load().encoder_pack(source.data_ptr(), columns, rows, target)
        return MatrixStructure(n=columns, k=rows, panels=target, bias=self._floats(bias))

    def _norm(self, norm: Any) -> NormStructure:
        return NormStructure(weight=self._floats(norm.weight), bias=self._floats(norm.bias))

    def _floats(self, values: Tensor) -> int:
        kept = values.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()

    def _aligned(self, elements: int) -> int:
        """Where as many bf16 numbers begin."""
        whole = np.empty(elements + _ALIGNMENT, dtype=np.uint16)
        self._kept.append(whole)
        return whole.ctypes.data + -whole.ctypes.data % _ALIGNMENT
