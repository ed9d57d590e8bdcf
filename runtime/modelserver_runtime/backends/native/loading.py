"""Chooses the decoder of our own where it computes the same as transformers, and makes it."""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import GenerationLimits, SamplingDefaults
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native import library
from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS
from modelserver_runtime.backends.native.language_model import NativeLanguageModel
from modelserver_runtime.backends.native.weights import PackedModel, objection
from modelserver_runtime.backends.tokenization import TransformersTokenizer

# Tokens of a trial: of every kind of id, and more than one panel of keys.
_TRIAL = (*range(3, 20), *range(1000, 1400, 97), 7, 7, 7)
# Two ways to round to bf16 differ by about 0.01 in a Llama of 135 M parameters; room for others.
_LARGEST_DIFFERENCE = 0.08
# Weights of 8 bits changed the logits of that model by 0.036, and those of tiny ones by up to 0.23;
# logits that have nothing in common differ by 1.4.
_LARGEST_OF_INTEGERS = 0.5
# Sequences that are begun but not yet full waste less than a block each; so many may run.
_SPARE_BLOCKS = 512
# When the layout of keys is unknown to `cache_capacity_tokens`; every model here has one.
_FEWEST_TOKENS = 4096

log = logging.getLogger(__name__)


def native_objection(model: PreTrainedModel, options: LoadOptions) -> str:
    """Why transformers has to compute this model; empty if the decoder can."""
    if options.device != "cpu":
        return f"the device is {options.device}"
    if reason := objection(model):
        return reason
    try:
        library.load()
    except library.DecoderUnavailable as error:
        return str(error)
    return ""


def load_native(
    model: PreTrainedModel,
    tokenizer: TransformersTokenizer,
    *,
    limits: GenerationLimits,
    defaults: SamplingDefaults,
    most_guessed: int = 0,
    as_integers: bool = False,
) -> NativeLanguageModel | None:
    """Takes the model's weights; None if the decoder computes something else than transformers."""
    tokens = max(limits.max_cached_tokens or 0, limits.max_model_length, _FEWEST_TOKENS)
    trial = [index % limits.vocabulary_size for index in _TRIAL]
    expected = _by_transformers(model, trial)
    backend = NativeLanguageModel(
        PackedModel(model, most_positions=limits.max_model_length, as_integers=as_integers),
        tokenizer,
        limits=limits,
        defaults=defaults,
        threads=torch.get_num_threads(),
        blocks=-(-tokens // BLOCK_TOKENS) + _SPARE_BLOCKS,
        most_guessed=most_guessed,
    )
    difference = _distance(backend.logits(trial), expected)
    if difference <= (_LARGEST_OF_INTEGERS if as_integers else _LARGEST_DIFFERENCE):
        return backend
    log.warning("The decoder's logits differ by %.3f from those of transformers", difference)
    return None


@torch.inference_mode()
def _by_transformers(model: PreTrainedModel, token_ids: list[int]) -> Tensor:
    outputs: Any = model(input_ids=torch.tensor([token_ids]), logits_to_keep=1)
    logits: Tensor = outputs.logits[0, -1].float()
    return logits


def _distance(found: Tensor, expected: Tensor) -> float:
    """Of vectors, as a share of the length of the expected one."""
    return float((found - expected).norm() / expected.norm())
