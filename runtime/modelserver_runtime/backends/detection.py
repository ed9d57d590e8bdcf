"""Reads from a model's files what it can be served for; loads no weights."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from modelserver_runtime.errors import ArtifactCorrupt, UnsupportedModel
from modelserver_runtime.settings import Task

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_PIPELINE_TAG = re.compile(r"^pipeline_tag:\s*['\"]?([\w-]+)", re.MULTILINE)
_AUDIO_ENCODERS = (
    *("wav2vec2", "wav2vec2-bert", "wav2vec2-conformer", "hubert", "wavlm", "sew", "sew-d"),
    *("unispeech", "unispeech-sat", "data2vec-audio", "whisper", "audio-spectrogram-transformer"),
)
_TRANSLATORS = ("marian", "m2m_100", "nllb-moe", "fsmt")
_TEXT_SEQ2SEQ = (
    *("t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "pegasus"),
    *("pegasus_x", "led", "blenderbot", "blenderbot-small", "prophetnet", "bigbird_pegasus"),
    *("t5gemma", "plbart", *_TRANSLATORS),
)

_VECTORS = (Task.EMBEDDINGS, Task.FEATURE_EXTRACTION, Task.SENTENCE_SIMILARITY)


class Family(Enum):
    """A kind of architecture; its value are the tasks it can be served for, the usual one first."""

    CAUSAL = (Task.TEXT_GENERATION, *_VECTORS)
    SEQUENCE_CLASSIFIER = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION)
    TOKEN_CLASSIFIER = (Task.TOKEN_CLASSIFICATION,)
    MASKED = (Task.FILL_MASK, *_VECTORS)
    TEXT_TO_TEXT = (Task.TEXT_TO_TEXT_GENERATION, Task.SUMMARIZATION, Task.TRANSLATION)
    TRANSLATOR = (Task.TRANSLATION, Task.TEXT_TO_TEXT_GENERATION)
    QUESTION_ANSWERER = (Task.QUESTION_ANSWERING,)
    ENCODER = _VECTORS
    IMAGE_CLASSIFIER = (Task.IMAGE_CLASSIFICATION,)
    IMAGE_TEXT = (Task.ZERO_SHOT_IMAGE_CLASSIFICATION,)
    DETECTOR = (Task.OBJECT_DETECTION,)
    AUDIO_CLASSIFIER = (Task.AUDIO_CLASSIFICATION,)
    SPEECH = (Task.SPEECH_RECOGNITION,)


# The end of an architecture's name decides; the first that fits.
_FAMILIES: Mapping[str, Family] = {
    "ForCausalLM": Family.CAUSAL,
    "LMHeadModel": Family.CAUSAL,
    "ForSequenceClassification": Family.SEQUENCE_CLASSIFIER,
    "ForTokenClassification": Family.TOKEN_CLASSIFIER,
    "ForMaskedLM": Family.MASKED,
    "ForPreTraining": Family.MASKED,
    "ForQuestionAnswering": Family.QUESTION_ANSWERER,
    "ForImageClassification": Family.IMAGE_CLASSIFIER,
    "ForImageClassificationWithTeacher": Family.IMAGE_CLASSIFIER,
    "ForObjectDetection": Family.DETECTOR,
    "ForAudioClassification": Family.AUDIO_CLASSIFIER,
    "ForCTC": Family.SPEECH,
    "ForSpeechSeq2Seq": Family.SPEECH,
}
_IMAGE_TEXT_MODELS = (
    *("CLIPModel", "SiglipModel", "Siglip2Model", "AltCLIPModel", "ChineseCLIPModel"),
    *("AlignModel", "MetaClip2Model"),
)
_SPEECH_MODELS = ("WhisperForConditionalGeneration", "MoonshineForConditionalGeneration")

_TAGS: Mapping[str, Task] = {
    "text-generation": Task.TEXT_GENERATION,
    "conversational": Task.TEXT_GENERATION,
    "sentence-similarity": Task.EMBEDDINGS,
    "feature-extraction": Task.EMBEDDINGS,
    "text-classification": Task.TEXT_CLASSIFICATION,
    "zero-shot-classification": Task.ZERO_SHOT_CLASSIFICATION,
    "fill-mask": Task.FILL_MASK,
    "summarization": Task.SUMMARIZATION,
    "translation": Task.TRANSLATION,
    "text2text-generation": Task.TEXT_TO_TEXT_GENERATION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    architecture: str
    task: Task


def identify(directory: Path, wanted: Task) -> Identity:
    """The task to serve; raises UnsupportedModel if the model is not made for what is wanted."""
    config = _read_config(directory)
    architecture = _architecture(config)
    family = _family(architecture, str(config.get("model_type", "")))
    if wanted is Task.AUTO:
        return Identity(architecture=architecture, task=_likely_task(directory, family))
    if wanted not in family.value:
        raise UnsupportedModel(
            f"The model is a {architecture} and cannot be served for {wanted}",
            hint=f"Set the task to {_listed(family.value)}, or to Auto.",
        )
    return Identity(architecture=architecture, task=wanted)


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(
            f"{path} cannot be read: {error}", hint="Copy or fetch the model again."
        ) from error
    return dict(config)


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures") or []
    if not names:
        raise UnsupportedModel(
            "The model's config.json names no architecture",
            hint='Add for example "architectures": ["LlamaForCausalLM"] to it.',
        )
    return str(names[0])


def _family(architecture: str, model_type: str) -> Family:
    if architecture in _SPEECH_MODELS:
        return Family.SPEECH
    if architecture in _IMAGE_TEXT_MODELS:
        return Family.IMAGE_TEXT
    if architecture.endswith(("ForSequenceClassification", "ForAudioClassification")):
        is_audio = model_type in _AUDIO_ENCODERS
        return Family.AUDIO_CLASSIFIER if is_audio else Family.SEQUENCE_CLASSIFIER
    if model_type in _TEXT_SEQ2SEQ and "Classification" not in architecture:
        return Family.TRANSLATOR if model_type in _TRANSLATORS else Family.TEXT_TO_TEXT
    for ending, family in _FAMILIES.items():
        if architecture.endswith(ending):
            return family
    if architecture.endswith("Model"):
        return Family.ENCODER
    raise UnsupportedModel(
        f"The architecture {architecture} cannot be served",
        hint=f"Served are architectures that end in {_listed(_FAMILIES)}, text encoders "
        "(...Model), and sequence-to-sequence models of text and speech.",
    )


def _likely_task(directory: Path, family: Family) -> Task:
    if (directory / "modules.json").is_file() and Task.EMBEDDINGS in family.value:
        return Task.EMBEDDINGS
    tagged = _TAGS.get(_pipeline_tag(directory))
    if tagged is not None and tagged in family.value:
        return tagged
    task: Task = family.value[0]
    return task


def _pipeline_tag(directory: Path) -> str:
    try:
        text = (directory / "README.md").read_text(errors="replace")
    except OSError:
        return ""
    front_matter = _FRONT_MATTER.match(text)
    tag = _PIPELINE_TAG.search(front_matter.group(1)) if front_matter else None
    return tag.group(1) if tag else ""


def _listed(names: Any) -> str:
    *first, last = [str(name) for name in names]
    return f"{', '.join(first)} or {last}" if first else last
