"""The words that settings are made of."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field


class Task(StrEnum):
    """The tasks that the code names; all there are say `tasks` and `modelserver-runtime discover`.

    The names are those of `spec.model.task`.
    """

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


# Any task, also one of an installed package; whether there is one of this name is asked later.
type TaskName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")]


class Dtype(StrEnum):
    """The type of the weights in memory; the names are those of `spec.runtime.dtype`.

    Int8 is for text that the native engine generates: factors of products are bfloat16.
    """

    AUTO = "Auto"
    FLOAT32 = "Float32"
    FLOAT16 = "Float16"
    BFLOAT16 = "BFloat16"
    INT8 = "Int8"


class QueueScope(StrEnum):
    """Whether the models of a server are waited for one by one, or all in one queue."""

    MODEL = "Model"
    SERVER = "Server"
