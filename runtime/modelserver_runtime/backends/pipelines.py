"""Tasks that transformers has a pipeline for."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.loading import (
    LoadOptions,
    load_part,
    load_weights,
    translated_errors,
)
from modelserver_runtime.backends.media import blank_image, read_image, read_sound, silence
from modelserver_runtime.errors import ContextLengthExceeded, InvalidRequest, UnsupportedModel
from modelserver_runtime.settings import Task

# transformers types each attribute of a pipeline as one of many; the task decides which it is.
type Pipeline = Any

_TEXT = ("tokenizer",)
_IMAGE = ("image_processor",)
_SOUND = ("feature_extractor",)
_TWO_LABELS = {"candidate_labels": ["first", "second"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTask:
    """`prepare` makes the pipeline's input of an item's; `sample` is what warm-up asks.

    `parts` are what the pipeline needs beside the model, by the names of its arguments.
    """

    pipeline: str
    auto_class: Any
    parts: Sequence[str] = _TEXT
    prepare: Callable[[Pipeline, Any], Any]
    sample: Callable[[Pipeline], TaskItem]
    parameters: Mapping[str, Any] = field(default_factory=dict)


def _text(pipeline: Pipeline, inputs: Any) -> Any:
    """A text, or a text with a second one that is judged together with it."""
    texts = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    _require_length(pipeline, texts)
    return inputs


def _require_length(pipeline: Pipeline, texts: Sequence[str]) -> None:
    longest = pipeline.tokenizer.model_max_length
    tokens = len(pipeline.tokenizer(*texts, verbose=False)["input_ids"])
    if tokens > longest:
        raise ContextLengthExceeded(
            f"The input has {tokens} tokens, and the model takes at most {longest}; shorten it",
            param="inputs",
        )


def _masked_text(pipeline: Pipeline, inputs: Any) -> Any:
    mask = pipeline.tokenizer.mask_token
    if mask not in inputs:
        raise InvalidRequest(
            f"The text has no {mask}; write it where a word is to be filled in", param="inputs"
        )
    return _text(pipeline, inputs)


def _image(_: Pipeline, inputs: bytes) -> Any:
    return read_image(inputs)


def _sound(pipeline: Pipeline, inputs: bytes) -> Any:
    return read_sound(inputs, pipeline.feature_extractor.sampling_rate)


def _sample_text(_: Pipeline) -> TaskItem:
    return TaskItem(inputs="warm up")


def _sample_labelled_text(_: Pipeline) -> TaskItem:
    return TaskItem(inputs="warm up", parameters=_TWO_LABELS)


def _sample_masked_text(pipeline: Pipeline) -> TaskItem:
    return TaskItem(inputs=f"warm {pipeline.tokenizer.mask_token}")


def _sample_image(_: Pipeline) -> TaskItem:
    return TaskItem(inputs=blank_image())


def _sample_labelled_image(_: Pipeline) -> TaskItem:
    return TaskItem(inputs=blank_image(), parameters=_TWO_LABELS)


def _sample_sound(_: Pipeline) -> TaskItem:
    return TaskItem(inputs=silence())


PIPELINE_TASKS: Mapping[str, PipelineTask] = {
    Task.TEXT_CLASSIFICATION: PipelineTask(
        pipeline="text-classification",
        auto_class=transformers.AutoModelForSequenceClassification,
        prepare=_text,
        sample=_sample_text,
        parameters={"top_k": None},
    ),
    Task.TOKEN_CLASSIFICATION: PipelineTask(
        pipeline="token-classification",
        auto_class=transformers.AutoModelForTokenClassification,
        prepare=_text,
        sample=_sample_text,
        parameters={"aggregation_strategy": "simple"},
    ),
    Task.ZERO_SHOT_CLASSIFICATION: PipelineTask(
        pipeline="zero-shot-classification",
        auto_class=transformers.AutoModelForSequenceClassification,
        prepare=_text,
        sample=_sample_labelled_text,
    ),
    Task.FILL_MASK: PipelineTask(
        pipeline="fill-mask",
        auto_class=transformers.AutoModelForMaskedLM,
        prepare=_masked_text,
        sample=_sample_masked_text,
    ),
    Task.IMAGE_CLASSIFICATION: PipelineTask(
        pipeline="image-classification",
        auto_class=transformers.AutoModelForImageClassification,
        parts=_IMAGE,
        prepare=_image,
        sample=_sample_image,
    ),
    Task.ZERO_SHOT_IMAGE_CLASSIFICATION: PipelineTask(
        pipeline="zero-shot-image-classification",
        auto_class=transformers.AutoModelForZeroShotImageClassification,
        parts=(*_TEXT, *_IMAGE),
        prepare=_image,
        sample=_sample_labelled_image,
    ),
    Task.OBJECT_DETECTION: PipelineTask(
        pipeline="object-detection",
        auto_class=transformers.AutoModelForObjectDetection,
        parts=_IMAGE,
        prepare=_image,
        sample=_sample_image,
    ),
    Task.AUDIO_CLASSIFICATION: PipelineTask(
        pipeline="audio-classification",
        auto_class=transformers.AutoModelForAudioClassification,
        parts=_SOUND,
        prepare=_sound,
        sample=_sample_sound,
    ),
    Task.SPEECH_RECOGNITION: PipelineTask(
        pipeline="automatic-speech-recognition",
        auto_class=(
            transformers.AutoModelForCTC,
            transformers.AutoModelForTDT,
            transformers.AutoModelForSpeechSeq2Seq,
        ),
        parts=(*_TEXT, *_SOUND),
        prepare=_sound,
        sample=_sample_sound,
    ),
}


def load(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, "PipelineBackend"]:
    task = PIPELINE_TASKS[identity.task]
    model, pipeline = load_pipeline(options, task.pipeline, task.auto_class, task.parts)
    if identity.task == Task.ZERO_SHOT_CLASSIFICATION and pipeline.entailment_id == -1:
        raise UnsupportedModel(
            f"The labels of the model are {', '.join(model.config.label2id or ())}; "
            "zero-shot classification needs one that begins with entail",
            hint="Use a model trained for natural language inference, or TextClassification.",
        )
    return model, PipelineBackend(pipeline, task)


def load_pipeline(
    options: LoadOptions, name: str, auto_class: Any, parts: Sequence[str]
) -> tuple[PreTrainedModel, Pipeline]:
    """A part whose name ends in a question mark is loaded if the model has it."""
    model = load_weights(_auto_class(auto_class, options), options)
    wanted = [part for part in parts if not part.endswith("?") or _has_processor(options)]
    with translated_errors():
        make: Any = transformers.pipeline
        given = {part.rstrip("?"): load_part(part.rstrip("?"), options) for part in wanted}
        return model, make(name, model=model, device=model.device, **given)


def _has_processor(options: LoadOptions) -> bool:
    names = ("preprocessor_config.json", "processor_config.json")
    return any((options.directory / name).is_file() for name in names)


def _auto_class(choices: Any, options: LoadOptions) -> Any:
    """Some tasks have several kinds of model; the first that knows this one loads it."""
    if not isinstance(choices, tuple):
        return choices
    with translated_errors():
        kind = type(AutoConfig.from_pretrained(**options.arguments))
    known = (choice for choice in choices if kind in choice._model_mapping)  # noqa: SLF001  as transformers' own pipelines ask
    return next(known, choices[-1])


class PipelineBackend:
    """See `backends.base.BatchBackend`."""

    def __init__(self, pipeline: Pipeline, task: PipelineTask) -> None:
        self._pipeline = pipeline
        self._task = task

    def warm_up(self) -> None:
        self.run([self._task.sample(self._pipeline)])

    @torch.inference_mode()
    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [answer for _, group in groupby(items, _key) for answer in self._run(list(group))]

    def _run(self, items: Sequence[TaskItem]) -> Iterator[Any]:
        """Items with the same parameters, in one batch."""
        inputs = [self._task.prepare(self._pipeline, item.inputs) for item in items]
        parameters = {**self._task.parameters, **items[0].parameters}
        if len(inputs) == 1:
            # Some pipelines unpack a list of one, some do not.
            return iter([plain(self._pipeline(inputs[0], **parameters))])
        outputs = self._pipeline(inputs, batch_size=self._batch_size(len(inputs)), **parameters)
        return (plain(output) for output in outputs)

    def _batch_size(self, items: int) -> int:
        """Texts can only share a batch if they can be padded to one length."""
        tokenizer = self._pipeline.tokenizer
        return 1 if tokenizer is not None and tokenizer.pad_token is None else items


def _key(item: TaskItem) -> str:
    return json.dumps(item.parameters, sort_keys=True)


def plain(value: Any) -> Any:
    """JSON values from what a pipeline gives: tensors, numpy's numbers, tuples."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return value.tolist()
    return value
