"""Text to vectors: an encoder, pooling, optional dense layers, length 1."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import EmbeddingItem, EmbeddingLimits
from modelserver_runtime.backends.tokenization import TransformersTokenizer
from modelserver_runtime.errors import UnsupportedModel

# From vectors [texts, tokens, dimensions] and a mask [texts, tokens, 1] to [texts, dimensions].
type Reduction = Callable[[Tensor, Tensor], Tensor]

_WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """How the vectors of tokens become one; from the files of sentence-transformers, if any."""

    reduce: Reduction
    dense: tuple[nn.Module, ...] = ()
    max_length: int | None = None


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def _mean_sqrt(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1).sqrt()


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask * mask.cumsum(1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask == 0, -torch.inf).amax(1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden)), mask.squeeze(-1).argmax(1)]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden)), (mask * mask.cumsum(1)).squeeze(-1).argmax(1)]


_REDUCTIONS = {
    "mean": _mean,
    "cls": _first,
    "max": _max,
    "lasttoken": _last,
    "weightedmean": _weighted_mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
}
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
}


def read_pooling(directory: Path) -> Pooling:
    path = directory / "modules.json"
    if not path.is_file():
        return Pooling(reduce=_mean)
    reduce: Reduction = _mean
    dense: list[nn.Module] = []
    for module in json.loads(path.read_text()):
        folder, kind = directory / module["path"], module["type"].rpartition(".")[2]
        match kind:
            case "Transformer" | "Normalize":
                pass
            case "Pooling":
                reduce = _reduction(folder)
            case "Dense":
                dense.append(_dense(folder))
            case _:
                raise UnsupportedModel(
                    f"The model has a module {kind}, which is not served",
                    hint="Served are Transformer, Pooling, Dense and Normalize.",
                )
    return Pooling(reduce=reduce, dense=tuple(dense), max_length=_max_length(directory))


def _reduction(folder: Path) -> Reduction:
    config = json.loads((folder / "config.json").read_text())
    names = [name for flag, name in _FLAGS.items() if config.get(flag)]
    names = names or [str(config.get("pooling_mode", "mean"))]
    if len(names) > 1 or names[0] not in _REDUCTIONS:
        raise UnsupportedModel(
            f"The model pools by {' and '.join(names)}, which is not served",
            hint=f"Served is one of {', '.join(_REDUCTIONS)}.",
        )
    return _REDUCTIONS[names[0]]


def _dense(folder: Path) -> nn.Module:
    config = json.loads((folder / "config.json").read_text())
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    path = folder / "model.safetensors"
    if name not in _ACTIVATIONS or not path.is_file():
        raise UnsupportedModel(
            f"The dense layer in {folder.name} is not served: activation {name}, "
            f"safetensors weights {'present' if path.is_file() else 'missing'}",
            hint=f"Served are {', '.join(_ACTIVATIONS)} with weights as safetensors.",
        )
    weights = load_file(path)
    linear = nn.Linear(config["in_features"], config["out_features"], bias="linear.bias" in weights)
    linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return nn.Sequential(linear, _ACTIVATIONS[name]()).eval()


def _max_length(directory: Path) -> int | None:
    path = directory / "sentence_bert_config.json"
    length = json.loads(path.read_text()).get("max_seq_length") if path.is_file() else None
    return int(length) if length else None


class Embedder:
    """See `backends.base.EmbeddingBackend`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TransformersTokenizer,
        pooling: Pooling,
        *,
        max_model_length: int,
    ) -> None:
        self._model = model
        self._pooling = pooling
        self.tokenizer = tokenizer
        self.limits = EmbeddingLimits(
            max_model_length=min(max_model_length, pooling.max_length or max_model_length),
            dimensions=self._dimensions(),
            shorter=_shorter(model.config),
            vocabulary_size=getattr(model.config, "vocab_size", None),
        )

    def _dimensions(self) -> int:
        for module in reversed(self._pooling.dense):
            return int(next(iter(module.parameters())).shape[0])
        return int(self._model.config.get_text_config().hidden_size)

    def warm_up(self) -> None:
        self.run([EmbeddingItem(token_ids=tuple(range(_WARM_UP_TOKENS)))])

    def run(self, items: Sequence[EmbeddingItem]) -> Sequence[bytes]:
        vectors = self.vectors([item.token_ids for item in items])
        return [vector.numpy().astype("<f4").tobytes() for vector in vectors]

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Float32 vectors of length 1, shape [texts, dimensions]."""
        hidden, mask = self.hidden_states(texts)
        pooled = self._pooling.reduce(hidden.float(), mask.unsqueeze(-1).float())
        for module in self._pooling.dense:
            pooled = module(pooled)
        return nn.functional.normalize(pooled, dim=-1).cpu()

    @torch.inference_mode()
    def hidden_states(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The vectors of all tokens, and the mask of those that are no padding."""
        device = self._model.device
        longest = max(len(text) for text in texts)
        padding = self.tokenizer.inner.pad_token_id or 0
        rows = [[*text, *[padding] * (longest - len(text))] for text in texts]
        ones = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
        mask = torch.tensor(ones, device=device)
        outputs: Any = self._model(input_ids=torch.tensor(rows, device=device), attention_mask=mask)
        return outputs.last_hidden_state, mask


def _shorter(config: Any) -> frozenset[int] | None:
    """Sizes to which the model's vectors may be cut, as its config says; usually none."""
    if sizes := getattr(config, "matryoshka_dimensions", None):
        return frozenset(sizes)
    return None if getattr(config, "is_matryoshka", False) else frozenset()
