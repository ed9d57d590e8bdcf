"""The words that settings are made of."""

from enum import StrEnum


class Task(StrEnum):
    """What a model is served for; the names are those of `spec.model.task`."""

    AUTO = "Auto"
    TEXT_GENERATION = "TextGeneration"
    EMBEDDINGS = "Embeddings"
    TEXT_CLASSIFICATION = "TextClassification"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105  a task, not a secret
    ZERO_SHOT_CLASSIFICATION = "ZeroShotClassification"
    FILL_MASK = "FillMask"
    SUMMARIZATION = "Summarization"
    TRANSLATION = "Translation"
    TEXT_TO_TEXT_GENERATION = "TextToTextGeneration"
    QUESTION_ANSWERING = "QuestionAnswering"
    FEATURE_EXTRACTION = "FeatureExtraction"
    SENTENCE_SIMILARITY = "SentenceSimilarity"
    IMAGE_CLASSIFICATION = "ImageClassification"
    ZERO_SHOT_IMAGE_CLASSIFICATION = "ZeroShotImageClassification"
    OBJECT_DETECTION = "ObjectDetection"
    AUDIO_CLASSIFICATION = "AudioClassification"
    SPEECH_RECOGNITION = "SpeechRecognition"


class Dtype(StrEnum):
    """The type of the weights in memory; the names are those of `spec.runtime.dtype`."""

    AUTO = "Auto"
    FLOAT32 = "Float32"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"
