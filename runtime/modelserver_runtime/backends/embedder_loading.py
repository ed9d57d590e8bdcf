"""Chooses who computes the vectors of an encoder's tokens, and makes the embedder."""

import copy
import logging
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import Computation, EmbeddingLimits
from modelserver_runtime.backends.embedder import Embedder, PaddedEncoder, TokenEncoder
from modelserver_runtime.backends.loading import (
    LoadOptions,
    load_tokenizer,
    load_weights,
    model_length,
    translated_errors,
)
from modelserver_runtime.backends.native import encoder_library
from modelserver_runtime.backends.native.encoder import Encoder
from modelserver_runtime.backends.native.encoder_weights import PackedEncoder, objection
from modelserver_runtime.backends.native.library import DecoderUnavailable
from modelserver_runtime.backends.pooling import Pooling, read_pooling
from modelserver_runtime.settings import Dtype

log = logging.getLogger(__name__)

# Of an element of a vector of length 1: those of the same text by other servers differ by as much.
_LARGEST_DIFFERENCE = 1e-3
# Lengths of the texts of a trial: one tile of rows and part of one, one panel of keys and several.
_TRIAL_LENGTHS = (3, 16, 40, 200)
# Goes through a vocabulary in steps that are prime, so that the tokens of a text differ.
_TRIAL_STRIDE = 7919


def load_embedder(
    options: LoadOptions, *, is_exact: bool = False
) -> tuple[PreTrainedModel, Embedder]:
    """`is_exact` where the vectors of tokens themselves are the answer: never in another dtype."""
    with translated_errors():
        pooling = read_pooling(options.directory)
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModel, options)
    limits = _limits(model, pooling, model_length(model, tokenizer, options))
    padded = PaddedEncoder(model, padding=tokenizer.inner.pad_token_id or 0)
    reason = "its answers are the tokens' vectors" if is_exact else _objection(model, options)
    encoder: TokenEncoder = padded
    if not reason:
        encoder, reason = _native(model, padded, pooling, limits)
    computation = Computation(engine="transformers" if reason else "native", reason=reason)
    if reason:
        log.info("%s is computed by transformers: %s", options.name, reason)
    limits = replace(limits, pads=encoder.pads)
    return model, Embedder(encoder, tokenizer, pooling, limits=limits, computation=computation)


def _objection(model: PreTrainedModel, options: LoadOptions) -> str:
    """Why the native encoder cannot compute this model, or should not; empty if it can."""
    if options.device != "cpu":
        return f"the device is {options.device}"
    if options.dtype in {Dtype.FLOAT32, Dtype.FLOAT16}:
        return f"the dtype is set to {options.dtype}"
    if reason := objection(model):
        return reason
    try:
        encoder_library.load()
    except DecoderUnavailable as error:
        return str(error)
    return ""


def _native(
    model: PreTrainedModel, padded: PaddedEncoder, pooling: Pooling, limits: EmbeddingLimits
) -> tuple[TokenEncoder, str]:
    """The native encoder if its vectors are those of float32; else the other one, and why."""
    trial = _trial(limits)
    packed = PackedEncoder(model)
    encoder = Encoder(packed, threads=torch.get_num_threads(), longest=limits.max_model_length)
    expected = pooling.reduce(_in_float32(model, padded, trial))
    difference = float((pooling.reduce(encoder.vectors(trial)) - expected).abs().max())
    if difference <= _LARGEST_DIFFERENCE:
        packed.release()
        return encoder, ""
    encoder.close()
    return padded, (
        f"an element of its vectors differs by {difference:.4f} in bf16, more than "
        f"{_LARGEST_DIFFERENCE}"
    )


def _trial(limits: EmbeddingLimits) -> list[list[int]]:
    vocabulary = limits.vocabulary_size or 1
    lengths = [min(length, limits.max_model_length) for length in _TRIAL_LENGTHS]
    return [
        [_TRIAL_STRIDE * (index + number) % vocabulary for index in range(length)]
        for number, length in enumerate(lengths)
    ]


def _in_float32(
    model: PreTrainedModel, padded: PaddedEncoder, texts: list[list[int]]
) -> list[Tensor]:
    """Each text alone."""
    if model.dtype is not torch.float32:
        widened: Any = copy.deepcopy(model)
        padded = PaddedEncoder(widened.float(), padding=0)
    return [padded.vectors([text])[0] for text in texts]


def _limits(model: PreTrainedModel, pooling: Pooling, longest: int) -> EmbeddingLimits:
    config: Any = model.config
    return EmbeddingLimits(
        max_model_length=min(longest, pooling.max_length or longest),
        dimensions=pooling.dimensions(int(config.get_text_config().hidden_size)),
        shorter=_shorter(config),
        vocabulary_size=getattr(config, "vocab_size", None),
    )


def _shorter(config: Any) -> frozenset[int] | None:
    """Sizes to which the model's vectors may be cut, as its config says; usually none."""
    if sizes := getattr(config, "matryoshka_dimensions", None):
        return frozenset(sizes)
    return None if getattr(config, "is_matryoshka", False) else frozenset()
