"""What a model is served for follows from its files."""

import json
from pathlib import Path
from typing import Any

import pytest

from modelserver_runtime.backends.detection import identify
from modelserver_runtime.errors import ArtifactCorrupt, UnsupportedModel
from modelserver_runtime.settings import Task


def a_model(directory: Path, architecture: str | None, **files: Any) -> Path:
    config = {"model_type": files.pop("model_type", "any")}
    if architecture:
        config["architectures"] = [architecture]
    (directory / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return directory


@pytest.mark.parametrize(
    ("architecture", "model_type", "task"),
    [
        ("LlamaForCausalLM", "llama", Task.TEXT_GENERATION),
        ("GPT2LMHeadModel", "gpt2", Task.TEXT_GENERATION),
        ("DistilBertForSequenceClassification", "distilbert", Task.TEXT_CLASSIFICATION),
        ("Wav2Vec2ForSequenceClassification", "wav2vec2", Task.AUDIO_CLASSIFICATION),
        ("BertForTokenClassification", "bert", Task.TOKEN_CLASSIFICATION),
        ("RobertaForMaskedLM", "roberta", Task.FILL_MASK),
        ("BertForQuestionAnswering", "bert", Task.QUESTION_ANSWERING),
        ("BertModel", "bert", Task.EMBEDDINGS),
        ("T5ForConditionalGeneration", "t5", Task.TEXT_TO_TEXT_GENERATION),
        ("MarianMTModel", "marian", Task.TRANSLATION),
        ("ViTForImageClassification", "vit", Task.IMAGE_CLASSIFICATION),
        ("CLIPModel", "clip", Task.ZERO_SHOT_IMAGE_CLASSIFICATION),
        ("DetrForObjectDetection", "detr", Task.OBJECT_DETECTION),
        ("WhisperForConditionalGeneration", "whisper", Task.SPEECH_RECOGNITION),
        ("Wav2Vec2ForCTC", "wav2vec2", Task.SPEECH_RECOGNITION),
    ],
)
def test_the_architecture_tells_the_task(tmp_path, architecture, model_type, task):
    path = a_model(tmp_path, architecture, model_type=model_type)
    assert identify(path, Task.AUTO).task == task


@pytest.mark.parametrize(
    ("architecture", "model_type", "tag", "task"),
    [
        (
            "BartForSequenceClassification",
            "bart",
            "zero-shot-classification",
            Task.ZERO_SHOT_CLASSIFICATION,
        ),
        ("T5ForConditionalGeneration", "t5", "summarization", Task.SUMMARIZATION),
        ("T5ForConditionalGeneration", "t5", "'translation'", Task.TRANSLATION),
        ("LlamaForCausalLM", "llama", "summarization", Task.TEXT_GENERATION),
        ("BertForMaskedLM", "bert", "sentence-similarity", Task.EMBEDDINGS),
    ],
)
def test_the_card_refines_it_where_the_architecture_can(
    tmp_path, architecture, model_type, tag, task
):
    card = f"---\nlicense: mit\npipeline_tag: {tag}\n---\n# A model\npipeline_tag: nonsense\n"
    path = a_model(tmp_path, architecture, model_type=model_type, README__md=card)
    assert identify(path, Task.AUTO).task == task


def test_files_of_sentence_transformers_mean_embeddings(tmp_path):
    path = a_model(tmp_path, "Qwen3ForCausalLM", model_type="qwen3", modules__json="[]")
    assert identify(path, Task.AUTO).task == Task.EMBEDDINGS
    assert identify(path, Task.TEXT_GENERATION).task == Task.TEXT_GENERATION


def test_a_task_that_the_model_is_not_made_for_is_refused_with_those_it_is(tmp_path):
    path = a_model(tmp_path, "BertForTokenClassification")
    with pytest.raises(UnsupportedModel) as refused:
        identify(path, Task.TEXT_GENERATION)
    assert "BertForTokenClassification and cannot be served for TextGeneration" in str(
        refused.value
    )
    assert refused.value.hint == "Set the task to TokenClassification, or to Auto."


@pytest.mark.parametrize("architecture", ["LlavaForConditionalGeneration", "SamForMasks", None])
def test_other_models_are_refused_with_what_is_served(tmp_path, architecture):
    with pytest.raises(UnsupportedModel) as refused:
        identify(a_model(tmp_path, architecture), Task.AUTO)
    assert "ForCausalLM" in refused.value.hint


def test_a_broken_config_is_corrupt(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtifactCorrupt, match=r"config\.json cannot be read"):
        identify(tmp_path, Task.AUTO)
