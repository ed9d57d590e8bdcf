"""Loads models of text: what generates, embeds and answers with words of a text."""

import logging

import transformers
from transformers import GenerationConfig, PreTrainedModel

from modelserver_runtime.backends import embedder_loading
from modelserver_runtime.backends.base import Backend, GenerationLimits, SamplingDefaults
from modelserver_runtime.backends.causal_lm import CausalLanguageModel
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.embedder import Embedder
from modelserver_runtime.backends.loading import (
    LoadOptions,
    cache_capacity_tokens,
    computed_by_torch,
    load_tokenizer,
    load_weights,
    model_length,
)
from modelserver_runtime.backends.native.loading import load_native, native_objection
from modelserver_runtime.backends.question_answering import QuestionAnswerer
from modelserver_runtime.backends.seq2seq import TextToText
from modelserver_runtime.backends.vectors import FeatureExtractor, SentenceSimilarity
from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Dtype

log = logging.getLogger(__name__)


def load_causal(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForCausalLM, options, as_stored=True)
    reason = native_objection(model, options)
    if reason:
        _require_no_integers(options, reason)
        log.info("%s is computed by transformers: %s", options.name, reason)
        model = computed_by_torch(model, options)
    generation = model.generation_config
    limits = GenerationLimits(
        max_model_length=model_length(model, tokenizer, options),
        vocabulary_size=model.config.get_text_config().vocab_size,
        end_token_ids=_end_token_ids(generation, tokenizer.inner.eos_token_id),
        max_cached_tokens=cache_capacity_tokens(model),
    )
    defaults = _sampling_defaults(generation)
    if not reason:
        native = load_native(
            model,
            tokenizer,
            limits=limits,
            defaults=defaults,
            most_guessed=options.speculative_tokens,
            as_integers=options.dtype is Dtype.INT8,
        )
        if native:
            return model, native
        # Its weights are gone.
        reason = "the native engine computes something else than transformers"
        _require_no_integers(options, reason)
        model = load_weights(transformers.AutoModelForCausalLM, options)
    slower = CausalLanguageModel(model, tokenizer, limits=limits, defaults=defaults, reason=reason)
    return model, slower


def _require_no_integers(options: LoadOptions, reason: str) -> None:
    if options.dtype is Dtype.INT8:
        raise InvalidConfiguration(
            f"Weights of 8 bits are computed by the native engine only, and {reason}",
            hint="Choose another dtype, or Auto.",
        )


def _end_token_ids(generation: GenerationConfig, tokenizers: int | None) -> frozenset[int]:
    configured = generation.eos_token_id
    if configured is None:
        return frozenset() if tokenizers is None else frozenset({tokenizers})
    return frozenset([configured] if isinstance(configured, int) else configured)


def _sampling_defaults(generation: GenerationConfig) -> SamplingDefaults:
    plain = SamplingDefaults()
    return SamplingDefaults(
        temperature=_or(generation.temperature, plain.temperature),
        top_p=_or(generation.top_p, plain.top_p),
        # transformers' own default is 50; only what the model's files say counts.
        top_k=_or(generation.to_diff_dict().get("top_k"), plain.top_k),
        min_p=_or(generation.min_p, plain.min_p),
        repetition_penalty=_or(generation.repetition_penalty, plain.repetition_penalty),
    )


def _or[T](value: T | None, default: T) -> T:
    return default if value is None else value


def load_embedder(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Embedder]:
    return embedder_loading.load_embedder(options)


def load_feature_extractor(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    model, embedder = embedder_loading.load_embedder(options, is_exact=True)
    return model, FeatureExtractor(embedder)


def load_similarity(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    model, embedder = embedder_loading.load_embedder(options)
    return model, SentenceSimilarity(embedder)


def load_text_to_text(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForSeq2SeqLM, options)
    length = model_length(model, tokenizer, options)
    return model, TextToText(model, tokenizer, task=identity.task, max_model_length=length)


def load_question_answerer(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForQuestionAnswering, options)
    length = model_length(model, tokenizer, options)
    return model, QuestionAnswerer(model, tokenizer, max_model_length=length)
