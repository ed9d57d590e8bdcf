"""One step of many sequences at once, with the same result as of each alone, bit for bit.

Linear layers see one matrix with a row for each sequence; attention looks at each sequence by
itself, with the keys and values that it has. A row of a product of matrices depends on how many
rows there are, since another kernel adds in another order, but on CPUs only up to a few rows: the
products of one row, of two or three, and of any multiple of four each have their own order. So a
step always computes a multiple of four rows, for one sequence too, and the rows that are too many
are thrown away. Whether that holds for a model on this machine is tried out before it is used.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME = "modelserver_ragged"
_ROWS = 4
# Sizes of batches that the trial compares with single steps; the last one fills several tiles.
_TRIED_SIZES = (2, 3, 4, 7, 32)
_TRIAL_PROMPTS = ((1, 2, 3), (4, 5, 6, 7, 8), (9,), (10, 11))


class _Rows(list[Tensor]):
    """Keys, or values, of each sequence: [1, heads, tokens, dimensions], each with its length."""


class _RaggedCache(Cache):
    """Looks like one cache to the model, and puts each row where it belongs."""

    def __init__(self, caches: Sequence[DynamicCache]) -> None:
        super().__init__(layers=caches[0].layers)
        self._caches = caches

    def update(  # type: ignore[override]  # several tensors where transformers has one
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[_Rows, _Rows]:
        keys, values = _Rows(), _Rows()
        for row, cache in enumerate(self._caches):
            each = slice(row, row + 1)
            layer: Any = cache.layers[layer_idx]
            key, value = layer.update(key_states[each], value_states[each])
            keys.append(key)
            values.append(value)
        return keys, values


def _attention(
    module: nn.Module, query: Tensor, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    if not isinstance(key, _Rows):
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    # One new token sees everything that its cache holds, so that there is nothing to mask.
    rows = [
        sdpa_attention_forward(module, query[row : row + 1], each, value[row], None, **options)[0]
        for row, each in enumerate(key)
    ]
    rows.extend([torch.zeros_like(rows[0])] * (query.shape[0] - len(rows)))
    return torch.cat(rows), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def use_ragged_steps(model: PreTrainedModel) -> bool:
    """Prepares a model for `ragged_step`; False if it must be computed one by one."""
    if not _may_be_ragged(model):
        return False
    before = model.config._attn_implementation  # noqa: SLF001  transformers has no other name
    model.set_attn_implementation(_NAME)
    if _is_exact(model):
        return True
    model.set_attn_implementation(before)
    return False


def _may_be_ragged(model: PreTrainedModel) -> bool:
    """Experts are computed with as many rows as choose them; some layers keep no keys."""
    config = model.config.get_text_config(decoder=True)
    has_experts = any("expert" in name and name[0] != "_" for name in vars(config))
    is_sdpa = config._attn_implementation == "sdpa"  # noqa: SLF001  as above
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    layers = DynamicCache(config=model.config).layers
    return (
        bool(model._supports_attention_backend)  # noqa: SLF001  as above
        and is_sdpa
        and not has_experts
        and all(type(layer) in known for layer in layers)
    )


def _is_exact(model: PreTrainedModel) -> bool:
    """Compares rows of batches of several sizes with the same steps of each sequence alone."""
    try:
        caches = [_prefilled(model, prompt) for prompt in _TRIAL_PROMPTS]
        alone = [
            ragged_step(model, [copy.deepcopy(cache)], [index])[0]
            for index, cache in enumerate(caches)
        ]
        return all(_agrees(model, caches, alone, size) for size in _TRIED_SIZES)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
        # A model that does something with keys and values before it gives them to attention.
        return False


def _agrees(
    model: PreTrainedModel, caches: Sequence[DynamicCache], alone: Sequence[Tensor], size: int
) -> bool:
    chosen = [(index * 3 + size) % len(caches) for index in range(size)]
    rows = ragged_step(model, [copy.deepcopy(caches[index]) for index in chosen], chosen)
    return all(torch.equal(row, alone[index]) for row, index in zip(rows, chosen, strict=True))


@torch.inference_mode()
def _prefilled(model: PreTrainedModel, prompt: Sequence[int]) -> DynamicCache:
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prompt], device=model.device) % model.config.get_text_config().vocab_size
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


@torch.inference_mode()
def ragged_step(
    model: PreTrainedModel, caches: Sequence[DynamicCache], token_ids: Sequence[int]
) -> Tensor:
    """Computes one token of each sequence; logits of shape [sequences, vocabulary]."""
    rows = -(-len(caches) // _ROWS) * _ROWS
    spare = rows - len(caches)
    positions = [cache.get_seq_length() for cache in caches]
    device = model.device
    outputs: Any = model(
        input_ids=torch.tensor([*token_ids, *[0] * spare], device=device).unsqueeze(1),
        position_ids=torch.tensor([*positions, *[0] * spare], device=device).unsqueeze(1),
        # A mask of four dimensions is taken as it is, whatever kinds of layer there are.
        attention_mask=torch.ones((rows, 1, 1, 1), dtype=torch.bool, device=device),
        past_key_values=_RaggedCache(caches),
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = outputs.logits[: len(caches), -1]
    return logits


def undo_step(cache: DynamicCache, tokens: int) -> bool:
    """After a step that broke off: forgets what it left behind; False where that cannot be."""
    layers: Sequence[Any] = cache.layers
    for layer in layers:
        surplus = layer.get_seq_length() - tokens
        if surplus <= 0:
            continue
        if type(layer) is not DynamicLayer:
            return False
        layer.crop(-surplus)
    return True
