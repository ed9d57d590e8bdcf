"""Kinds of architectures, by the names in config.json, and what each can be served for."""

from collections.abc import Mapping, Sequence
from enum import Enum

from modelserver_runtime.settings import Task

_VECTORS = (Task.EMBEDDINGS, Task.FEATURE_EXTRACTION, Task.SENTENCE_SIMILARITY)


class Family(Enum):
    """Its value are the tasks it can be served for, the usual one first."""

    CAUSAL = (Task.TEXT_GENERATION, *_VECTORS, "Decision")
    SEQUENCE_CLASSIFIER = (Task.TEXT_CLASSIFICATION, Task.ZERO_SHOT_CLASSIFICATION)
    TOKEN_CLASSIFIER = (Task.TOKEN_CLASSIFICATION,)
    MASKED = (Task.FILL_MASK, *_VECTORS)
    TEXT_TO_TEXT = (
        *(Task.TEXT_TO_TEXT_GENERATION, Task.SUMMARIZATION, Task.TRANSLATION),
        "TableQuestionAnswering",
    )
    TRANSLATOR = (Task.TRANSLATION, Task.TEXT_TO_TEXT_GENERATION)
    QUESTION_ANSWERER = (Task.QUESTION_ANSWERING,)
    TABLE_READER = ("TableQuestionAnswering",)
    DOCUMENT_READER = ("DocumentQuestionAnswering",)
    IMAGE_WRITER = ("ImageTextToText", "DocumentQuestionAnswering")
    DECIDER = ("Decision",)
    ENCODER = _VECTORS
    IMAGE_CLASSIFIER = (Task.IMAGE_CLASSIFICATION,)
    IMAGE_ENCODER = ("ImageFeatureExtraction",)
    IMAGE_TEXT = (Task.ZERO_SHOT_IMAGE_CLASSIFICATION,)
    IMAGE_CHAT = ("ImageTextToText", "AnyToAny", "Decision")
    SEGMENTER = ("ImageSegmentation",)
    MASK_MAKER = ("MaskGeneration",)
    DEPTH = ("DepthEstimation",)
    KEYPOINTS = ("KeypointMatching",)
    DETECTOR = (Task.OBJECT_DETECTION,)
    OPEN_DETECTOR = ("ZeroShotObjectDetection",)
    VIDEO_CLASSIFIER = ("VideoClassification",)
    AUDIO_CLASSIFIER = (Task.AUDIO_CLASSIFICATION,)
    AUDIO_TEXT = ("ZeroShotAudioClassification",)
    SPEECH = (Task.SPEECH_RECOGNITION,)
    SPEAKER = ("TextToAudio",)


# Whole names, for architectures whose name says nothing or too much.
_NAMES: Mapping[Family, Sequence[str]] = {
    Family.SPEECH: ("WhisperForConditionalGeneration", "MoonshineForConditionalGeneration"),
    Family.SPEAKER: (
        *("VitsModel", "BarkModel", "MusicgenForConditionalGeneration"),
        *("MusicgenMelodyForConditionalGeneration", "SpeechT5ForTextToSpeech"),
        *("FastSpeech2ConformerWithHifiGan", "CsmForConditionalGeneration"),
        *("DiaForConditionalGeneration", "SeamlessM4TForTextToSpeech"),
    ),
    Family.IMAGE_TEXT: (
        *("CLIPModel", "SiglipModel", "Siglip2Model", "AltCLIPModel", "ChineseCLIPModel"),
        *("AlignModel", "MetaClip2Model"),
    ),
    Family.AUDIO_TEXT: ("ClapModel",),
    Family.TABLE_READER: ("TapasForQuestionAnswering",),
    Family.DOCUMENT_READER: (
        *("LayoutLMForQuestionAnswering", "LayoutLMv2ForQuestionAnswering"),
        "LayoutLMv3ForQuestionAnswering",
    ),
    Family.IMAGE_WRITER: (
        *("VisionEncoderDecoderModel", "GitForCausalLM", "Pix2StructForConditionalGeneration"),
        *("BlipForConditionalGeneration", "UdopForConditionalGeneration"),
    ),
    Family.MASK_MAKER: ("SamModel", "SamHQModel", "Sam2Model", "EdgeTamModel"),
    Family.OPEN_DETECTOR: (
        *("OwlViTForObjectDetection", "Owlv2ForObjectDetection"),
        *("GroundingDinoForObjectDetection", "MMGroundingDinoForObjectDetection"),
        "OmDetTurboForObjectDetection",
    ),
}
_FAMILY_OF_NAME = {name: family for family, names in _NAMES.items() for name in names}

# The end of an architecture's name decides; the first that fits.
_FAMILY_OF_ENDING: Mapping[str, Family] = {
    "ForDecision": Family.DECIDER,
    "ForCausalLM": Family.CAUSAL,
    "LMHeadModel": Family.CAUSAL,
    "ForSequenceClassification": Family.SEQUENCE_CLASSIFIER,
    "ForTokenClassification": Family.TOKEN_CLASSIFIER,
    "ForMaskedLM": Family.MASKED,
    "ForPreTraining": Family.MASKED,
    "ForQuestionAnswering": Family.QUESTION_ANSWERER,
    "ForImageClassification": Family.IMAGE_CLASSIFIER,
    "ForImageClassificationWithTeacher": Family.IMAGE_CLASSIFIER,
    "ForSemanticSegmentation": Family.SEGMENTER,
    "ForInstanceSegmentation": Family.SEGMENTER,
    "ForUniversalSegmentation": Family.SEGMENTER,
    "ForImageSegmentation": Family.SEGMENTER,
    "ForSegmentation": Family.SEGMENTER,
    "ForDepthEstimation": Family.DEPTH,
    "ForKeypointMatching": Family.KEYPOINTS,
    "ForVideoClassification": Family.VIDEO_CLASSIFIER,
    "ForObjectDetection": Family.DETECTOR,
    "ForAudioClassification": Family.AUDIO_CLASSIFIER,
    "ForCTC": Family.SPEECH,
    "ForTDT": Family.SPEECH,
    "ForSpeechSeq2Seq": Family.SPEECH,
}
_AUDIO_ENCODERS = (
    *("wav2vec2", "wav2vec2-bert", "wav2vec2-conformer", "hubert", "wavlm", "sew", "sew-d"),
    *("unispeech", "unispeech-sat", "data2vec-audio", "whisper", "audio-spectrogram-transformer"),
)
_IMAGE_ENCODERS = (
    *("vit", "vit_mae", "vit_msn", "deit", "beit", "data2vec-vision", "dinov2", "dinov3_vit"),
    *("dinov2_with_registers", "dinov3_convnext", "swin", "swinv2", "convnext", "convnextv2"),
    *("resnet", "regnet", "clip_vision_model", "siglip_vision_model", "ijepa", "hiera", "pvt"),
    *("mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "levit", "cvt", "efficientnet"),
)
_TRANSLATORS = ("marian", "m2m_100", "nllb-moe", "fsmt")
_TEXT_SEQ2SEQ = (
    *("t5", "mt5", "umt5", "longt5", "switch_transformers", "bart", "mbart", "pegasus"),
    *("pegasus_x", "led", "blenderbot", "blenderbot-small", "prophetnet", "bigbird_pegasus"),
    *("t5gemma", "plbart", *_TRANSLATORS),
)
SERVED = (
    f"architectures that end in {', '.join(_FAMILY_OF_ENDING)}, encoders of text and images "
    "(...Model), sequence-to-sequence models, and models that read images and write text"
)


def family_of(architecture: str, model_type: str, *, reads_images: bool) -> Family | None:
    """`reads_images` is whether the model's configuration has a part for images."""
    if architecture in _FAMILY_OF_NAME:
        return _FAMILY_OF_NAME[architecture]
    if architecture.endswith(("ForSequenceClassification", "ForAudioClassification")):
        is_audio = model_type in _AUDIO_ENCODERS
        return Family.AUDIO_CLASSIFIER if is_audio else Family.SEQUENCE_CLASSIFIER
    if model_type in _TEXT_SEQ2SEQ and "Classification" not in architecture:
        return Family.TRANSLATOR if model_type in _TRANSLATORS else Family.TEXT_TO_TEXT
    if reads_images and architecture.endswith(("ForConditionalGeneration", "ForCausalLM")):
        return Family.IMAGE_CHAT
    return _family_by_ending(architecture, model_type)


def _family_by_ending(architecture: str, model_type: str) -> Family | None:
    for ending, family in _FAMILY_OF_ENDING.items():
        if architecture.endswith(ending):
            return family
    if architecture.endswith("Model"):
        return Family.IMAGE_ENCODER if model_type in _IMAGE_ENCODERS else Family.ENCODER
    return None
