"""Tasks whose pipelines of transformers are asked for one input at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.detection import Identity
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.media import (
    blank_image,
    png_base64,
    read_image,
    read_sound,
    silence,
    wav_base64,
)
from modelserver_runtime.backends.pipelines import Pipeline, load_pipeline, plain
from modelserver_runtime.errors import InvalidRequest, UnsupportedModel

type Parameters = Mapping[str, Any]
type Answer = Callable[[Pipeline, Any, Parameters], Any]

_TWO_LABELS = {"candidate_labels": ["first", "second"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTask:
    """`answer` asks the pipeline with an item's inputs and parameters; `sample` is for warm-up."""

    pipeline: str
    auto_class: Any
    parts: Sequence[str]
    answer: Answer
    sample: Callable[[], TaskItem]


def load(options: LoadOptions, identity: Identity) -> tuple[PreTrainedModel, "MediaBackend"]:
    task = MEDIA_TASKS[identity.task]
    _require_no_vocoder(identity)
    model, pipeline = load_pipeline(options, task.pipeline, task.auto_class, task.parts)
    return model, MediaBackend(pipeline, task)


def _require_no_vocoder(identity: Identity) -> None:
    if identity.architecture == "SpeechT5ForTextToSpeech":
        raise UnsupportedModel(
            "SpeechT5 makes spectrograms, which another model has to turn into sound",
            hint="Use a model that makes sound itself, such as VITS, Bark or MusicGen.",
        )


class MediaBackend:
    """See `backends.base.BatchBackend`."""

    def __init__(self, pipeline: Pipeline, task: MediaTask) -> None:
        self._pipeline = pipeline
        self._task = task

    def warm_up(self) -> None:
        self.run([self._task.sample()])

    @torch.inference_mode()
    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        answer = self._task.answer
        return [plain(answer(self._pipeline, item.inputs, item.parameters)) for item in items]


def _speak(pipeline: Pipeline, inputs: str, parameters: Parameters) -> Any:
    if parameters and not pipeline.model.can_generate():
        raise InvalidRequest(
            f"The model computes a text at once and has no {min(parameters)}; leave it away",
            param=f"parameters.{min(parameters)}",
        )
    options = {"generate_kwargs": dict(parameters)} if parameters else {}
    output = pipeline(inputs, **options)
    audio, rate = np.atleast_2d(np.asarray(output["audio"])), int(output["sampling_rate"])
    seconds = audio.shape[-1] / rate
    return {"audio": wav_base64(audio, rate), "sampling_rate": rate, "seconds": seconds}


def _read_table(pipeline: Pipeline, inputs: Any, _: Parameters) -> Any:
    import pandas as pd  # noqa: PLC0415  takes half a second, and only tables need it

    table = pd.DataFrame.from_dict(inputs["table"])
    return pipeline(table=table, query=inputs["query"])


def _read_document(pipeline: Pipeline, inputs: Any, parameters: Parameters) -> Any:
    words = inputs["word_boxes"]
    if words is None and pipeline.model_type.name != "VisionEncoderDecoder":
        raise InvalidRequest(
            "The model reads words and their places, and this server recognises no characters; "
            "send word_boxes",
            param="inputs.word_boxes",
        )
    question = {"image": read_image(inputs["image"]), "question": inputs["question"]}
    if words is not None:
        question["word_boxes"] = [[word, list(box)] for word, box in words]
    output = pipeline(question, **parameters)
    return output if isinstance(output, list) else [output]


def _label_sound(pipeline: Pipeline, inputs: bytes, parameters: Parameters) -> Any:
    sound = read_sound(inputs, pipeline.feature_extractor.sampling_rate)
    return pipeline(sound["raw"], **parameters)


def _image_vectors(pipeline: Pipeline, inputs: bytes, parameters: Parameters) -> Any:
    """The pipeline answers for a batch of one."""
    [vectors] = pipeline(read_image(inputs), **parameters)
    return vectors


def _segment(pipeline: Pipeline, inputs: bytes, parameters: Parameters) -> Any:
    subtask = parameters.get("subtask")
    if subtask and not hasattr(pipeline.image_processor, _SUBTASK.format(subtask)):
        raise InvalidRequest(
            f"The model cannot do {subtask} segmentation; leave subtask away",
            param="parameters.subtask",
        )
    segments = pipeline(read_image(inputs), **parameters)
    return [{**segment, "mask": png_base64(segment["mask"])} for segment in segments]


_SUBTASK = "post_process_{}_segmentation"


def _estimate_depth(pipeline: Pipeline, inputs: bytes, _: Parameters) -> Any:
    output = pipeline(read_image(inputs))
    values = output["predicted_depth"]
    return {
        "depth": png_base64(output["depth"]),
        "least": float(values.min()),
        "greatest": float(values.max()),
    }


def _find_objects(pipeline: Pipeline, inputs: bytes, parameters: Parameters) -> Any:
    labels = parameters["candidate_labels"]
    others = {name: value for name, value in parameters.items() if name != "candidate_labels"}
    return pipeline({"image": read_image(inputs), "candidate_labels": labels}, **others)


def _match(pipeline: Pipeline, inputs: Any, parameters: Parameters) -> Any:
    pair = (read_image(inputs["first"]), read_image(inputs["second"]))
    return [
        {
            "first": match["keypoint_image_0"],
            "second": match["keypoint_image_1"],
            "score": match["score"],
        }
        for match in pipeline(pair, **parameters)
    ]


def _decide(pipeline: Pipeline, inputs: Any, _: Parameters) -> Any:
    questions = {
        name: {key: value for key, value in question.items() if value is not None}
        for name, question in inputs["questions"].items()
    }
    try:
        return pipeline({"state": inputs["state"], "questions": questions})
    except ValueError as error:
        raise InvalidRequest(f"The questions cannot be asked: {error}", param="inputs") from error


def _write_about_images(pipeline: Pipeline, inputs: Any, parameters: Parameters) -> Any:
    images = [read_image(content) for content in inputs["images"]]
    prompt = prompt_of(pipeline.processor, inputs["text"], {"image": images})
    output = pipeline(**prompt, generate_kwargs=dict(parameters), return_full_text=False)
    return {"generated_text": _first(output)["generated_text"]}


def prompt_of(processor: Any, text: str, media: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """A conversation of one turn where the model has a template; else the text as it is."""
    if getattr(processor, "chat_template", None):
        parts = [{"type": kind, kind: part} for kind, parts in media.items() for part in parts]
        content = [*parts, {"type": "text", "text": text}]
        return {"text": [{"role": "user", "content": content}]}
    named = {"image": "images", "audio": "audio"}
    return {"text": text, **{named[kind]: list(parts) for kind, parts in media.items() if parts}}


def _first(output: Any) -> Any:
    """Some pipelines answer one input with a list of one, some with a list of lists."""
    while isinstance(output, list):
        output = output[0]
    return output


def _sample_sound() -> TaskItem:
    return TaskItem(inputs=silence(), parameters=_TWO_LABELS)


def _sample_image() -> TaskItem:
    return TaskItem(inputs=blank_image())


def _sample_document() -> TaskItem:
    words = [("warm", (0, 0, 500, 500)), ("up", (500, 0, 1000, 500))]
    inputs = {"image": blank_image(), "question": "warm up", "word_boxes": words}
    return TaskItem(inputs=inputs)


def _sample_chat() -> TaskItem:
    inputs = {"images": [blank_image()], "text": "warm up"}
    return TaskItem(inputs=inputs, parameters={"max_new_tokens": 1})


def _sample_decision() -> TaskItem:
    question = {"type": "noul", "instructions": "Is it warm?"}
    return TaskItem(inputs={"state": "warm", "questions": {"warm": question}})


MEDIA_TASKS: Mapping[str, MediaTask] = {
    "TextToAudio": MediaTask(
        pipeline="text-to-audio",
        auto_class=(
            transformers.AutoModelForTextToWaveform,
            transformers.AutoModelForTextToSpectrogram,
        ),
        parts=("tokenizer",),
        answer=_speak,
        sample=lambda: TaskItem(inputs="warm up"),
    ),
    "TableQuestionAnswering": MediaTask(
        pipeline="table-question-answering",
        auto_class=(
            transformers.AutoModelForTableQuestionAnswering,
            transformers.AutoModelForSeq2SeqLM,
        ),
        parts=("tokenizer",),
        answer=_read_table,
        sample=lambda: TaskItem(inputs={"query": "warm up", "table": {"warm": ["up"]}}),
    ),
    "DocumentQuestionAnswering": MediaTask(
        pipeline="document-question-answering",
        auto_class=transformers.AutoModelForDocumentQuestionAnswering,
        parts=("tokenizer", "image_processor?"),
        answer=_read_document,
        sample=_sample_document,
    ),
    "ZeroShotAudioClassification": MediaTask(
        pipeline="zero-shot-audio-classification",
        auto_class=transformers.AutoModel,
        parts=("tokenizer", "feature_extractor"),
        answer=_label_sound,
        sample=_sample_sound,
    ),
    "ImageFeatureExtraction": MediaTask(
        pipeline="image-feature-extraction",
        auto_class=transformers.AutoModel,
        parts=("image_processor",),
        answer=_image_vectors,
        sample=_sample_image,
    ),
    "ImageSegmentation": MediaTask(
        pipeline="image-segmentation",
        auto_class=(
            transformers.AutoModelForImageSegmentation,
            transformers.AutoModelForSemanticSegmentation,
            transformers.AutoModelForUniversalSegmentation,
        ),
        parts=("image_processor",),
        answer=_segment,
        sample=_sample_image,
    ),
    "ImageTextToText": MediaTask(
        pipeline="image-text-to-text",
        auto_class=transformers.AutoModelForImageTextToText,
        parts=("processor",),
        answer=_write_about_images,
        sample=_sample_chat,
    ),
    "ZeroShotObjectDetection": MediaTask(
        pipeline="zero-shot-object-detection",
        auto_class=transformers.AutoModelForZeroShotObjectDetection,
        parts=("tokenizer", "image_processor"),
        answer=_find_objects,
        sample=lambda: TaskItem(inputs=blank_image(), parameters=_TWO_LABELS),
    ),
    "Decision": MediaTask(
        pipeline="decision",
        auto_class=(
            transformers.AutoModelForDecision,
            transformers.AutoModelForImageTextToText,
            transformers.AutoModelForCausalLM,
        ),
        parts=("tokenizer",),
        answer=_decide,
        sample=_sample_decision,
    ),
    "DepthEstimation": MediaTask(
        pipeline="depth-estimation",
        auto_class=transformers.AutoModelForDepthEstimation,
        parts=("image_processor",),
        answer=_estimate_depth,
        sample=_sample_image,
    ),
    "KeypointMatching": MediaTask(
        pipeline="keypoint-matching",
        auto_class=transformers.AutoModelForKeypointMatching,
        parts=("image_processor",),
        answer=_match,
        sample=lambda: TaskItem(inputs={"first": blank_image(), "second": blank_image()}),
    ),
}
