"""How the vectors of a text's tokens become one, as the files of sentence-transformers say."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from modelserver_runtime.errors import UnsupportedModel

# From the vectors of one text's tokens, [tokens, dimensions], to [dimensions].
type Reduction = Callable[[Tensor], Tensor]


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(0)


def _mean_sqrt(rows: Tensor) -> Tensor:
    return rows.sum(0) / math.sqrt(len(rows))


def _weighted_mean(rows: Tensor) -> Tensor:
    weights = torch.arange(1, len(rows) + 1, dtype=rows.dtype, device=rows.device)
    return weights @ rows / weights.sum()


def _max(rows: Tensor) -> Tensor:
    return rows.amax(0)


def _first(rows: Tensor) -> Tensor:
    return rows[0]


def _last(rows: Tensor) -> Tensor:
    return rows[-1]


# In the order in which sentence-transformers puts several of them one after another.
_REDUCTIONS: Mapping[str, Reduction] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """From tokens to one vector; `dense` layers come behind the `reductions`, which are joined.

    `prompt` goes before every text, as the model's authors want it where nobody says otherwise.
    """

    reductions: Sequence[Reduction] = (_mean,)
    dense: tuple[nn.Module, ...] = ()
    max_length: int | None = None
    prompt: str = ""

    def dimensions(self, hidden: int) -> int:
        for module in reversed(self.dense):
            return int(next(iter(module.parameters())).shape[0])
        return hidden * len(self.reductions)

    def reduce(self, texts: Sequence[Tensor]) -> Tensor:
        """Of the tokens' vectors of each text; float32 vectors of length 1, on the processor."""
        pooled = torch.stack(
            [torch.cat([reduce(rows) for reduce in self.reductions]) for rows in texts]
        )
        pooled = pooled.float().cpu()
        for module in self.dense:
            pooled = module(pooled)
        return nn.functional.normalize(pooled, dim=-1)


def read_pooling(directory: Path) -> Pooling:
    path = directory / "modules.json"
    if not path.is_file():
        return Pooling()
    reductions: Sequence[Reduction] = (_mean,)
    dense: list[nn.Module] = []
    for module in json.loads(path.read_text()):
        folder, kind = directory / module["path"], module["type"].rpartition(".")[2]
        match kind:
            case "Transformer" | "Normalize":
                pass
            case "Pooling":
                reductions = _reductions(folder)
            case "Dense":
                dense.append(_dense(folder))
            case _:
                raise UnsupportedModel(
                    f"The model has a module {kind}, which is not served",
                    hint="Served are Transformer, Pooling, Dense and Normalize.",
                )
    return Pooling(
        reductions=reductions,
        dense=tuple(dense),
        max_length=_max_length(directory),
        prompt=_prompt(directory),
    )


def _reductions(folder: Path) -> Sequence[Reduction]:
    """Older files have a flag for each; newer ones the name of one."""
    config = json.loads((folder / "config.json").read_text())
    names = {name for flag, name in _FLAGS.items() if config.get(flag)}
    names = names or {str(config.get("pooling_mode", "mean"))}
    if unknown := sorted(names - _REDUCTIONS.keys()):
        raise UnsupportedModel(
            f"The model pools by {' and '.join(unknown)}, which is not served",
            hint=f"Served are {', '.join(_REDUCTIONS)}, also several of them.",
        )
    if config.get("include_prompt") is False and _prompt(folder.parent):
        raise UnsupportedModel(
            "The model does not pool the tokens of its prompt, which is not served",
            hint="Remove default_prompt_name from config_sentence_transformers.json, and let "
            "clients send texts as the model was trained to read them.",
        )
    return [reduction for name, reduction in _REDUCTIONS.items() if name in names]


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


def _prompt(directory: Path) -> str:
    path = directory / "config_sentence_transformers.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    name = config.get("default_prompt_name")
    return str((config.get("prompts") or {}).get(name) or "") if name else ""


def _max_length(directory: Path) -> int | None:
    path = directory / "sentence_bert_config.json"
    length = json.loads(path.read_text()).get("max_seq_length") if path.is_file() else None
    return int(length) if length else None
