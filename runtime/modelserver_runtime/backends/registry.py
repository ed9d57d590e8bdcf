"""Loads the backend that a model's task needs."""

from collections.abc import Callable
from typing import Any

import transformers
from transformers import GenerationConfig, PreTrainedModel

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import (
    BatchBackend,
    EmbeddingBackend,
    GenerationBackend,
    GenerationLimits,
    LoadedModel,
    ModelDescription,
    SamplingDefaults,
)
from modelserver_runtime.backends.causal_lm import CausalLanguageModel
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.embedder import Embedder, read_pooling
from modelserver_runtime.backends.loading import (
    LoadOptions,
    cache_capacity_tokens,
    load_part,
    load_tokenizer,
    load_weights,
    model_length,
    read_ahead,
    stay_offline,
    translated_errors,
    use_threads,
)
from modelserver_runtime.backends.pipelines import PIPELINE_TASKS, PipelineBackend
from modelserver_runtime.backends.question_answering import QuestionAnswerer
from modelserver_runtime.backends.seq2seq import TextToText
from modelserver_runtime.backends.vectors import FeatureExtractor, SentenceSimilarity
from modelserver_runtime.errors import UnsupportedModel
from modelserver_runtime.settings import Task

type Backend = GenerationBackend | EmbeddingBackend | BatchBackend
type Load = Callable[[LoadOptions, Identity], tuple[PreTrainedModel, Backend]]


def load_model(options: LoadOptions, identity: Identity, progress: Progress) -> LoadedModel:
    """A model that has answered once; every failure is a StartupFailure."""
    stay_offline()
    threads = use_threads(options.threads)
    read_ahead(options.directory, progress)
    progress.say(f"Loading {identity.architecture} for {identity.task}")
    model, backend = _LOADERS[identity.task](options, identity)
    progress.enter(Phase.WARMING_UP, message="Computing a first answer")
    with translated_errors():
        backend.warm_up()
    return LoadedModel(description=_describe(model, identity, threads), backend=backend)


def _describe(model: PreTrainedModel, identity: Identity, threads: int) -> ModelDescription:
    return ModelDescription(
        task=identity.task,
        architecture=identity.architecture,
        parameters=model.num_parameters(),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        threads=threads,
        memory_bytes=model.get_memory_footprint(),
    )


def _load_causal(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForCausalLM, options)
    generation = model.generation_config
    limits = GenerationLimits(
        max_model_length=model_length(model, tokenizer, options),
        vocabulary_size=model.config.get_text_config().vocab_size,
        end_token_ids=_end_token_ids(generation, tokenizer.inner.eos_token_id),
        max_cached_tokens=cache_capacity_tokens(model),
    )
    defaults = _sampling_defaults(generation)
    return model, CausalLanguageModel(model, tokenizer, limits=limits, defaults=defaults)


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


def _load_embedder(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Embedder]:
    with translated_errors():
        pooling = read_pooling(options.directory)
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModel, options)
    length = model_length(model, tokenizer, options)
    return model, Embedder(model, tokenizer, pooling, max_model_length=length)


def _load_feature_extractor(
    options: LoadOptions, identity: Identity
) -> tuple[PreTrainedModel, Backend]:
    model, embedder = _load_embedder(options, identity)
    return model, FeatureExtractor(embedder)


def _load_similarity(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, Backend]:
    model, embedder = _load_embedder(options, identity)
    return model, SentenceSimilarity(embedder)


def _load_text_to_text(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForSeq2SeqLM, options)
    length = model_length(model, tokenizer, options)
    return model, TextToText(model, tokenizer, task=identity.task, max_model_length=length)


def _load_question_answerer(options: LoadOptions, _: Identity) -> tuple[PreTrainedModel, Backend]:
    tokenizer = load_tokenizer(options)
    model = load_weights(transformers.AutoModelForQuestionAnswering, options)
    length = model_length(model, tokenizer, options)
    return model, QuestionAnswerer(model, tokenizer, max_model_length=length)


def _load_pipeline(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, Backend]:
    task = PIPELINE_TASKS[identity.task]
    model = load_weights(_auto_class(task.auto_class, identity), options)
    with translated_errors():
        make: Any = transformers.pipeline
        pipeline = make(
            task.pipeline,
            model=model,
            device=model.device,
            **{part: load_part(part, options) for part in task.parts},
        )
    if identity.task is Task.ZERO_SHOT_CLASSIFICATION and pipeline.entailment_id == -1:
        raise UnsupportedModel(
            f"The labels of the model are {', '.join(model.config.label2id or ())}; "
            "zero-shot classification needs one that begins with entail",
            hint="Use a model trained for natural language inference, or TextClassification.",
        )
    return model, PipelineBackend(pipeline, task)


def _auto_class(choice: Any, identity: Identity) -> Any:
    """Speech has two kinds of model; the architecture tells which."""
    if not isinstance(choice, tuple):
        return choice
    ctc, seq2seq = choice
    return ctc if identity.architecture.endswith("ForCTC") else seq2seq


_LOADERS: dict[Task, Load] = {
    Task.TEXT_GENERATION: _load_causal,
    Task.EMBEDDINGS: _load_embedder,
    Task.FEATURE_EXTRACTION: _load_feature_extractor,
    Task.SENTENCE_SIMILARITY: _load_similarity,
    Task.SUMMARIZATION: _load_text_to_text,
    Task.TRANSLATION: _load_text_to_text,
    Task.TEXT_TO_TEXT_GENERATION: _load_text_to_text,
    Task.QUESTION_ANSWERING: _load_question_answerer,
    **dict.fromkeys(PIPELINE_TASKS, _load_pipeline),
}
