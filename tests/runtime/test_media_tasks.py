"""Tasks of images, sounds, videos and tables answer in their own shapes."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.frames import read_frames
from modelserver_runtime.backends.masks import best_boxes
from modelserver_runtime.errors import InvalidRequest
from modelserver_runtime.tasks import find_task
from support import tiny_media_models as tiny
from support.runtime_server import running_server, settings_for

pytestmark = pytest.mark.slow


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


def test_a_video_is_looked_at_from_its_beginning_to_its_end(tmp_path):
    frames = read_frames(film(frames=6), 3)
    shades = [frame.getpixel((5, 5))[0] for frame in frames]
    assert shades == sorted(shades)
    assert shades[-1] - shades[0] > 150
    assert len(read_frames(animation(), 8)) == 8


def test_a_film_an_animation_and_a_list_of_frames_are_videos(tmp_path):
    path = tiny.video_classifier(tmp_path / "model")
    stills = [picture(seed=index) for index in range(3)]
    asked = [(film(), {}), (animation(), {"num_frames": 4}), (stills, {"top_k": 1})]
    film_labels, animation_labels, still_labels = answers("VideoClassification", path, *asked)
    assert len(film_labels) == len(animation_labels) == 3
    assert sum(label["score"] for label in film_labels) == pytest.approx(1)
    assert len(still_labels) == 1


def test_what_is_no_video_is_said():
    with pytest.raises(InvalidRequest, match=r"no video that can be read \(4 bytes\)"):
        read_frames(b"nope", 3)


def test_overlapping_shapes_are_found_once():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 9, 10]])
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    assert best_boxes(boxes.float(), scores, 0.5) == [1, 2]
    assert best_boxes(boxes.float(), scores, 0.99) == [1, 0, 3, 2]


def test_a_mask_lies_in_its_box(tmp_path):
    task = "MaskGeneration"
    make, inputs, parameters = CASES[task]
    [masks] = answers(task, make(tmp_path / "model"), (inputs, parameters))
    for mask in masks:
        image = Image.open(io.BytesIO(base64.b64decode(mask["mask"])))
        assert image.size == (48, 40)
        found = image.getbbox()
        box = tuple(mask["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax"))
        assert found is None or np.abs(np.subtract(found, box)).max() <= 1


def test_spoken_text_is_a_sound_that_can_be_played(tmp_path):
    [output] = answers("TextToAudio", tiny.speaker(tmp_path / "model"), ("the quick fox", {}))
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(output["audio"])))
    assert rate == output["sampling_rate"]
    assert len(samples) / rate == pytest.approx(output["seconds"])


@pytest.fixture(scope="module")
def segment_server(tmp_path_factory):
    path = tiny.segmenter(tmp_path_factory.mktemp("models") / "segmenter")
    with running_server(settings_for(path)) as server:
        yield server


def same(one, other):
    return [(part["label"], part["mask"]) for part in one.json()["output"]] == [
        (part["label"], part["mask"]) for part in other.json()["output"]
    ]


def test_an_image_comes_as_base64_as_a_data_url_as_the_body_or_in_a_form(segment_server):
    text = base64.b64encode(picture()).decode()
    plain = segment_server.post("/predict", inputs=text)
    assert plain.status_code == 200, plain.text
    url = segment_server.post("/predict", inputs=f"data:image/png;base64,{text}")
    headers = {"content-type": "image/png"}
    body = segment_server.client.post(
        "/predict?subtask=semantic", content=picture(), headers=headers
    )
    form = segment_server.client.post(
        "/predict",
        files={"file": ("a.png", picture(), "image/png")},
        data={"parameters": '{"threshold": 0.5}', "mask_threshold": "0.4", "model": "tiny"},
    )
    assert form.status_code == 200, form.text
    assert same(plain, url)
    assert same(plain, body)
    assert same(plain, form)


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"data": {"parameters": "{"}}, "parameters is no JSON"),
        ({"data": {"parameters": "[]"}}, "parameters must be a JSON object"),
        ({"data": {"threshold": "2"}}, "parameters.threshold: Input should be less than or equal"),
        ({"data": {"thresold": "0.1"}}, "thresold is not a known field; did you mean threshold?"),
        ({"data": {"subtask": "panoptic"}}, "The model cannot do panoptic segmentation"),
    ],
)
def test_a_wrong_form_is_told_by_part(segment_server, form, sentence):
    files = {"inputs": ("a.png", picture(), "image/png")}
    answer = segment_server.client.post("/predict", files=files, **form)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]["message"]


def test_a_form_that_is_none_is_told(segment_server):
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = segment_server.client.post("/predict", content=b"--y", headers=headers)
    assert answer.status_code == 400
    no_boundary = {"content-type": "multipart/form-data"}
    answer = segment_server.client.post("/predict", content=b"--y", headers=no_boundary)
    assert answer.status_code == 400
    assert "The form cannot be read: Missing boundary" in answer.json()["error"]["message"]


def test_urls_are_not_fetched(segment_server):
    answer = segment_server.post("/predict", inputs="http://127.0.0.1:1/a.png")
    assert answer.status_code == 400
    assert "URLs are not fetched" in answer.json()["error"]["message"]


def test_a_form_fills_the_fields_of_inputs_with_several_parts(tmp_path):
    path = tiny.document_reader(tmp_path / "model")
    with running_server(settings_for(path)) as server:
        answer = server.client.post(
            "/predict",
            files={"image": ("page.png", picture(), "image/png")},
            data={"question": "who", "word_boxes": json.dumps(WORDS), "top_k": "2"},
        )
        assert answer.status_code == 200, answer.text
        assert 1 <= len(answer.json()["output"]) <= 2
        body = server.client.post(
            "/predict?question=who", content=picture(), headers={"content-type": "image/png"}
        )
        assert body.status_code == 400
        assert "send word_boxes" in body.json()["error"]["message"]
