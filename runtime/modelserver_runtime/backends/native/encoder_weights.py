"""Whether the encoder can compute a model of transformers, and the weights as it reads them."""

from collections.abc import Iterator, Mapping, Sequence
from ctypes import Array, addressof
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelserver_runtime.backends.native import encoder_library
from modelserver_runtime.backends.native.arena import Arena
from modelserver_runtime.backends.native.encoder_library import (
    LayerStructure,
    ModelStructure,
    NormStructure,
)
from modelserver_runtime.backends.native.structures import MatrixStructure

# As in encoder.c: by the names of transformers. `gelu_new` and the others are by tanh.
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_PANEL = 32  # as in encoder.c: the columns of a panel
_BF16_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Where a class of models keeps what a layer of all of them has; names inside a layer."""

    layers: str = "encoder.layer"
    qkv: Sequence[str]
    out: str
    attended: str
    up: str
    down: str
    finished: str


_BERT = _Layout(
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    out="attention.output.dense",
    attended="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    finished="output.LayerNorm",
)
_MPNET = replace(
    _BERT,
    qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    out="attention.attn.o",
    attended="attention.LayerNorm",
)
_DISTILBERT = _Layout(
    layers="transformer.layer",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    out="attention.out_lin",
    attended="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    finished="output_layer_norm",
)
# Those whose layers are attention, norm, product, norm, each with what it began from; nothing else.
_LAYOUTS: Mapping[str, _Layout] = {
    "BertModel": _BERT,
    "RobertaModel": _BERT,
    "XLMRobertaModel": _BERT,
    "CamembertModel": _BERT,
    "MPNetModel": _MPNET,
    "DistilBertModel": _DISTILBERT,
}
# Of the end of a row of `nearness`: scores are computed 16 at a time, also behind the last key.
_SPARE_KEYS = 16


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
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        yield "its tokens do not see those after them"
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        yield f"its positions are {config.position_embedding_type}"
    if _activation(config) not in _ACTIVATIONS:
        yield f"its activation is {_activation(config)}"
    head, inner = config.hidden_size // config.num_attention_heads, _inner_width(config)
    if head % _PANEL or inner % _PANEL:
        yield f"its heads are {head} and its inner layers {inner} wide, not multiples of {_PANEL}"


def _activation(config: Any) -> str:
    return str(getattr(config, "hidden_act", None) or config.activation)


def _inner_width(config: Any) -> int:
    return int(getattr(config, "intermediate_size", None) or config.hidden_dim)


class PackedEncoder:
    """The structure that the encoder reads, and the memory behind its pointers.

    The model keeps its own weights until `release`: before, both can be compared.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._floating: list[Tensor] = []
        self._arena = Arena()
        self._model = model
        self._layout = _LAYOUTS[type(model).__name__]
        config: Any = model.config
        embeddings: Any = model.embeddings
        self.vocabulary = len(embeddings.word_embeddings.weight)
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
            intermediate=_inner_width(config),
            activation=_ACTIVATIONS[_activation(config)],
            epsilon=embeddings.LayerNorm.eps,
            scale=head**-0.5,
            layer=addressof(self._layers),
            words=self._floats(embeddings.word_embeddings.weight),
            positions=self._floats(embeddings.position_embeddings.weight),
            embedded=self._norm(embeddings.LayerNorm),
        )
        if hasattr(embeddings, "token_type_embeddings"):
            self.structure.kind = self._floats(embeddings.token_type_embeddings.weight[0])
        if hasattr(model, "encoder") and hasattr(model.encoder, "relative_attention_bias"):
            self._add_nearness(model.encoder, config.max_position_embeddings - 1)

    def release(self) -> None:
        """Takes the weights out of the model; the tables of embeddings are shared, not copied."""
        self._model.to("meta")  # type: ignore[arg-type]  # transformers types it too narrowly

    def _add_nearness(self, encoder: Any, reach: int) -> None:
        """MPNet adds to each score what depends on how far the key is from the query."""
        distances = torch.arange(-reach, reach + 1)
        by_distance = encoder.relative_attention_bias.weight[
            encoder.relative_position_bucket(distances)
        ]
        rows = nn.functional.pad(by_distance.T, (0, _SPARE_KEYS))
        self.structure.nearness, self.structure.reach = self._floats(rows), reach

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
        target = self._arena.take(_BF16_BYTES * weight.numel())
        source = weight.detach().to(torch.bfloat16).contiguous()
        encoder_library.load().encoder_pack(source.data_ptr(), columns, rows, target)
        return MatrixStructure(n=columns, k=rows, panels=target, bias=self._floats(bias))

    def _norm(self, norm: Any) -> NormStructure:
        return NormStructure(weight=self._floats(norm.weight), bias=self._floats(norm.bias))

    def _floats(self, values: Tensor) -> int:
        kept = values.detach().float().contiguous()
        self._floating.append(kept)
        return kept.data_ptr()
