"""Every task has a typed answer on /predict, and one bad item of a batch fails alone."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import TypeAdapter

from modelserver_runtime.settings import Task
from modelserver_runtime.tasks import find_task
from support import tiny_models
from support.runtime_server import RunningServer, running_server, settings_for

TEXT = "the quick brown fox"


def picture() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, format="JPEG")
    return base64.b64encode(buffer.getvalue()).decode()


def sound(rate: int = 16_000, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, (rate // 2, channels))
    soundfile.write(buffer, noise.astype(np.float32), rate, format="WAV")
    return buffer.getvalue()


def rounded(value: Any) -> Any:
    """A batch computes its sums in another order."""
    match value:
        case dict():
            return {key: rounded(entry) for key, entry in value.items()}
        case list():
            return [rounded(entry) for entry in value]
        case float():
            return round(value, 3)
        case _:
            return value


CASES: dict[Task, tuple[Any, dict[str, Any]]] = {
    Task.TEXT_CLASSIFICATION: (tiny_models.classifier, {"inputs": TEXT}),
    Task.TOKEN_CLASSIFICATION: (tiny_models.token_classifier, {"inputs": TEXT}),
    Task.ZERO_SHOT_CLASSIFICATION: (
        tiny_models.zero_shot_classifier,
        {"inputs": TEXT, "parameters": {"candidate_labels": ["fox", "dog"]}},
    ),
    Task.FILL_MASK: (tiny_models.masked_model, {"inputs": "the quick [MASK] fox"}),
    Task.SUMMARIZATION: (
        tiny_models.text_to_text,
        {"inputs": TEXT, "parameters": {"max_new_tokens": 5}},
    ),
    Task.TEXT_TO_TEXT_GENERATION: (
        tiny_models.text_to_text,
        {"inputs": TEXT, "parameters": {"max_new_tokens": 5}},
    ),
    Task.TRANSLATION: (
        tiny_models.translator,
        {"inputs": TEXT, "parameters": {"max_new_tokens": 5, "num_beams": 2}},
    ),
    Task.QUESTION_ANSWERING: (
        tiny_models.question_answerer,
        {"inputs": {"question": "who jumps", "context": f"{TEXT} jumps. " * 30}},
    ),
    Task.FEATURE_EXTRACTION: (tiny_models.encoder, {"inputs": TEXT}),
    Task.SENTENCE_SIMILARITY: (
        tiny_models.encoder,
        {"inputs": {"source_sentence": TEXT, "sentences": [TEXT, "questions answer"]}},
    ),
    Task.IMAGE_CLASSIFICATION: (tiny_models.image_classifier, {"inputs": picture()}),
    Task.AUDIO_CLASSIFICATION: (
        tiny_models.audio_classifier,
        {"inputs": base64.b64encode(sound()).decode()},
    ),
    Task.SPEECH_RECOGNITION: (
        tiny_models.speech_model,
        {"inputs": "data:audio/wav;base64," + base64.b64encode(sound(8_000, 2)).decode()},
    ),
}


@pytest.mark.parametrize("task", CASES, ids=str)
def test_a_task_answers_in_its_own_shape(task, tmp_path):
    make, body = CASES[task]
    with running_server(settings_for(make(tmp_path / "model"), task=task)) as server:
        response = server.post("/predict", **body)
        assert response.status_code == 200, response.text
        assert response.json()["task"] == task
        TypeAdapter(find_task(task).schema.answer).validate_python(response.json()["output"])
        batch = server.post("/batch-predict", **{**body, "inputs": [body["inputs"]] * 3})
        outputs = [rounded(result["output"]) for result in batch.json()["results"]]
        assert outputs == [rounded(response.json()["output"])] * 3


def test_one_bad_item_of_a_batch_fails_alone_and_the_order_is_kept(task_server):
    inputs = ["quick", "", "brown " * 100, {"text": "fox", "text_pair": "dog"}, 7, "lazy"]
    response = task_server.post("/batch-predict", inputs=inputs, parameters={"top_k": 1})
    results = response.json()["results"]
    assert [result["index"] for result in results] == list(range(6))
    assert [result["error"] is None for result in results] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]
    assert results[1]["error"]["param"] == "inputs.1"
    assert results[2]["error"]["code"] == "context_length_exceeded"
    for index in (0, 3, 5):
        single = task_server.post("/predict", inputs=inputs[index], parameters={"top_k": 1})
        label, found = single.json()["output"][0], results[index]["output"][0]
        assert found["label"] == label["label"]
        assert found["score"] == pytest.approx(label["score"], abs=1e-5)


def test_top_k_limits_the_labels(task_server):
    labels = task_server.post("/predict", inputs="quick").json()["output"]
    assert len(labels) == 3
    assert sum(label["score"] for label in labels) == pytest.approx(1)
    best = task_server.post("/predict", inputs="quick", parameters={"top_k": 1}).json()["output"]
    assert best == labels[:1]


def test_an_image_may_be_the_body_itself(image_server):
    content = base64.b64decode(picture())
    response = image_server.client.post(
        "/predict?top_k=2", content=content, headers={"content-type": "image/jpeg"}
    )
    assert response.status_code == 200, response.text
    whole = image_server.post("/predict", inputs=picture(), parameters={"top_k": 2})
    assert rounded(response.json()) == rounded(whole.json())


def test_an_answer_is_words_of_the_text(tmp_path):
    make, body = CASES[Task.QUESTION_ANSWERING]
    with running_server(settings_for(make(tmp_path / "model"))) as server:
        answers = server.post("/predict", **body, parameters={"top_k": 3}).json()["output"]
        assert len(answers) == 3
        for answer in answers:
            text = body["inputs"]["context"]
            assert text[answer["start"] : answer["end"]] == answer["answer"]
            assert 0 < answer["score"] <= 1


def test_the_mask_is_asked_for(tmp_path):
    with running_server(settings_for(tiny_models.masked_model(tmp_path / "model"))) as server:
        response = server.post("/predict", inputs="no gap here")
        assert response.status_code == 400
        assert "The text has no [MASK]" in response.json()["error"]["message"]


def test_a_bilingual_model_takes_no_languages(tmp_path):
    with running_server(settings_for(tiny_models.translator(tmp_path / "model"))) as server:
        response = server.post("/predict", inputs=TEXT, parameters={"target_language": "de"})
        assert response.status_code == 400
        assert "two languages only" in response.json()["error"]["message"]


@pytest.fixture(scope="module")
def similarity_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    path: Path = tiny_models.encoder(tmp_path_factory.mktemp("models") / "similarity")
    with running_server(settings_for(path, task=Task.SENTENCE_SIMILARITY)) as server:
        yield server


def test_a_sentence_is_most_like_itself(similarity_server):
    inputs = {"source_sentence": TEXT, "sentences": ["questions answer", TEXT]}
    other, same = similarity_server.post("/predict", inputs=inputs).json()["output"]
    assert same == pytest.approx(1)
    assert other < same


def test_a_long_sentence_is_named(similarity_server):
    inputs = {"source_sentence": TEXT, "sentences": [TEXT, "quick " * 100]}
    response = similarity_server.post("/predict", inputs=inputs)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "inputs.sentences.1"
