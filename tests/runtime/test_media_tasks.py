"""Tasks of images, sounds, videos and tables answer in their own shapes."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.tasks import find_task
from support import tiny_media_models as tiny
from support.runtime_server import settings_for


def picture(*, size: tuple[int, int] = (48, 40), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    soundfile.write(buffer, noise, 16_000, format="WAV")
    return buffer.getvalue()


def film(frames: int = 6) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for index in range(frames):
            shade = np.full((48, 64, 3), 40 * index, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def animation() -> bytes:
    shades = [Image.new("RGB", (32, 32), (40 * index, 0, 0)) for index in range(5)]
    buffer = io.BytesIO()
    shades[0].save(buffer, format="GIF", save_all=True, append_images=shades[1:])
    return buffer.getvalue()


LABELS = {"candidate_labels": ["fox", "dog"]}
WORDS = [["brown", [0, 0, 500, 500]], ["fox", [500, 0, 1000, 500]]]
TABLE = {"city": ["1", "2"], "goals": ["3", "2"]}
QUESTIONS = {
    "refund": {"type": "noul", "instructions": "Is a refund requested?"},
    "mood": {"type": "choice", "instructions": "Mood?", "criteria": {"good": "", "bad": ""}},
}
CASES: dict[str, tuple[Callable[[Path], Path], Any, dict[str, Any]]] = {
    "TextToAudio": (tiny.speaker, "the quick brown fox", {}),
    "TableQuestionAnswering": (tiny.table_reader, {"query": "how many goals", "table": TABLE}, {}),
    "DocumentQuestionAnswering": (
        tiny.document_reader,
        {"image": picture(), "question": "who", "word_boxes": WORDS},
        {"top_k": 2},
    ),
    "ZeroShotAudioClassification": (tiny.sound_and_text, sound(), LABELS),
    "ImageFeatureExtraction": (tiny.image_encoder, picture(), {}),
    "ImageSegmentation": (tiny.segmenter, picture(), {}),
    "ImageTextToText": (
        tiny.image_chat,
        {"images": [picture()], "text": "what is it"},
        {"max_new_tokens": 3},
    ),
    "AnyToAny": (
        tiny.image_chat,
        {"images": [picture()], "text": "what is it"},
        {"max_new_tokens": 3},
    ),
    "ZeroShotObjectDetection": (tiny.open_detector, picture(), {**LABELS, "threshold": 0.0}),
    "ZeroShotImageClassification": (tiny.image_and_text, picture(), LABELS),
    "ObjectDetection": (tiny.detector, picture(), {"threshold": 0.0}),
    "Decision": (tiny.decider, {"state": "I was charged twice", "questions": QUESTIONS}, {}),
    "DepthEstimation": (tiny.depth_model, picture(), {}),
    "VideoClassification": (tiny.video_classifier, film(), {"top_k": 2}),
    "MaskGeneration": (
        tiny.mask_maker,
        picture(),
        {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    ),
    "KeypointMatching": (tiny.keypoint_matcher, {"first": picture(), "second": picture()}, {}),
}


def answers(task: str, directory: Path, *asked: tuple[Any, dict[str, Any]]) -> list[Any]:
    """What a loaded model of the task says to inputs and parameters that its schema has checked."""
    schema = find_task(task).schema
    model = load(settings_for(directory, task=task), Progress())
    assert model.description.task == task
    assert model.description.memory_bytes > 0
    outputs = model.backend.run([item_of(schema, *each) for each in asked])
    for output in outputs:
        TypeAdapter(schema.answer).validate_python(output)
    return outputs


def item_of(schema: Any, inputs: Any, parameters: dict[str, Any]) -> TaskItem:
    checked = schema.inputs_adapter.validate_python(inputs)
    inputs = checked.model_dump() if isinstance(checked, BaseModel) else checked
    chosen = schema.parameters.model_validate(parameters).model_dump(exclude_none=True)
    return TaskItem(inputs=inputs, parameters=chosen)


@pytest.mark.parametrize("task", CASES)
def test_a_task_answers_in_its_own_shape(task, tmp_path):
    make, inputs, parameters = CASES[task]
    [output] = answers(task, make(tmp_path / "model"), (inputs, parameters))
    assert output
