"""Models of images, sounds, videos and tables with random weights."""

import json
from pathlib import Path

import transformers

from support.tiny_models import (
    _byte_level_tokenizer,
    _labels,
    _random,
    _save,
    _word_piece_tokenizer,
    causal_model,
)

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_VISION = {**_TEXT, "image_size": 32, "patch_size": 8}
_SIZE = {"height": 32, "width": 32}


def _clip_tokenizer() -> transformers.PreTrainedTokenizerFast:
    tokenizer = _byte_level_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|end|>", "bos_token": "<|user|>"})
    tokenizer.model_max_length = 32
    return tokenizer


def speaker(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz -'_"
    vocabulary = {letter: index for index, letter in enumerate(letters)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = transformers.VitsTokenizer(
        str(directory / "vocab.json"), pad_token="_", unk_token="-", phonemize=False
    )
    config = transformers.VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=9,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        use_stochastic_duration_prediction=False,
    )
    return _save(directory, _random(transformers.VitsModel, config), tokenizer)


def table_reader(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EMPTY]"]
    words += ["how", "many", "goals", "city", "team", "1", "2", "3"]
    (directory / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.TapasTokenizer(str(directory / "vocab.txt"))
    config = transformers.TapasConfig(
        vocab_size=len(words),
        max_position_embeddings=128,
        num_aggregation_labels=2,
        aggregation_labels={0: "NONE", 1: "SUM"},
        no_aggregation_label_index=0,
        **_TEXT,
    )
    return _save(directory, _random(transformers.TapasForQuestionAnswering, config), tokenizer)


def document_reader(directory: Path) -> Path:
    tokenizer = _word_piece_tokenizer()
    config = transformers.LayoutLMConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, **_TEXT
    )
    tokenizer.model_max_length = 128
    return _save(directory, _random(transformers.LayoutLMForQuestionAnswering, config), tokenizer)


def sound_and_text(directory: Path) -> Path:
    tokenizer = _clip_tokenizer()
    config = transformers.ClapConfig(
        text_config={"vocab_size": len(tokenizer), "max_position_embeddings": 64, **_TEXT},
        audio_config={
            "hidden_size": 16,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "num_hidden_layers": 2,
            "window_size": 4,
            "spec_size": 64,
            "num_mel_bins": 16,
            "projection_dim": 16,
        },
        projection_dim=16,
    )
    extractor = transformers.ClapFeatureExtractor(
        feature_size=16, max_length_s=1, truncation="rand_trunc"
    )
    return _save(directory, _random(transformers.ClapModel, config), tokenizer, extractor)


def image_encoder(directory: Path) -> Path:
    model = _random(transformers.ViTModel, transformers.ViTConfig(**_VISION))
    return _save(directory, model, transformers.ViTImageProcessor(size=_SIZE))


def segmenter(directory: Path) -> Path:
    config = transformers.SegformerConfig(
        depths=[1, 1],
        hidden_sizes=[8, 16],
        num_encoder_blocks=2,
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        **_labels(["sky", "road", "tree"]),
    )
    model = _random(transformers.SegformerForSemanticSegmentation, config)
    return _save(directory, model, transformers.SegformerImageProcessor(size=_SIZE))


def depth_model(directory: Path) -> Path:
    config = transformers.GLPNConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        hidden_sizes=[8, 16],
        sr_ratios=[2, 1],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
    )
    model = _random(transformers.GLPNForDepthEstimation, config)
    return _save(directory, model, transformers.GLPNImageProcessor(size_divisor=32))


def video_classifier(directory: Path) -> Path:
    config = transformers.TimesformerConfig(
        num_frames=4, **_VISION, **_labels(["cooking", "driving", "sleeping"])
    )
    model = _random(transformers.TimesformerForVideoClassification, config)
    processor = transformers.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=_SIZE)
    return _save(directory, model, processor)


def mask_maker(directory: Path) -> Path:
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_pos_feats": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "mlp_dim": 32,
            "window_size": 2,
            "global_attn_indexes": [0],
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": 64,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "mlp_dim": 32,
            "iou_head_hidden_dim": 16,
        },
    )
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}
    )
    return _save(directory, _random(transformers.SamModel, config), processor)


def keypoint_matcher(directory: Path) -> Path:
    config = transformers.SuperGlueConfig(
        keypoint_detector_config={
            "model_type": "superpoint",
            "encoder_hidden_sizes": [8, 8, 8],
            "decoder_hidden_size": 16,
            "keypoint_decoder_dim": 65,
            "descriptor_decoder_dim": 16,
            "keypoint_threshold": 0.0,
            "max_keypoints": 12,
            "border_removal_distance": 1,
        },
        hidden_size=16,
        keypoint_encoder_sizes=[8],
        gnn_layers_types=["self", "cross"],
        num_attention_heads=2,
        sinkhorn_iterations=2,
    )
    model = _random(transformers.SuperGlueForKeypointMatching, config)
    processor = transformers.SuperGlueImageProcessor(size={"height": 64, "width": 64})
    return _save(directory, model, processor)


def detector(directory: Path) -> Path:
    config = transformers.YolosConfig(
        **{**_VISION, "image_size": [32, 32]}, num_detection_tokens=3, **_labels(["cat", "dog"])
    )
    model = _random(transformers.YolosForObjectDetection, config)
    processor = transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 32})
    return _save(directory, model, processor)


def _clip_parts(tokenizer: transformers.PreTrainedTokenizerFast) -> dict[str, object]:
    return {
        "text_config": {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32,
            "eos_token_id": tokenizer.eos_token_id,
            **_TEXT,
        },
        "vision_config": _VISION,
        "projection_dim": 32,
    }


def image_and_text(directory: Path) -> Path:
    tokenizer = _clip_tokenizer()
    config = transformers.CLIPConfig(**_clip_parts(tokenizer))
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=_SIZE)
    return _save(directory, _random(transformers.CLIPModel, config), tokenizer, processor)


def open_detector(directory: Path) -> Path:
    tokenizer = _clip_tokenizer()
    config = transformers.OwlViTConfig(**_clip_parts(tokenizer))
    model = _random(transformers.OwlViTForObjectDetection, config)
    return _save(directory, model, tokenizer, transformers.OwlViTImageProcessor(size=_SIZE))


def image_chat(directory: Path) -> Path:
    tokenizer = _byte_level_tokenizer()
    tokenizer.add_special_tokens({"pad_token": "<|end|>"})
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=256,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **_TEXT,
        ),
        vision_config=transformers.CLIPVisionConfig(**_VISION, projection_dim=16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size=_SIZE
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=(
            "{% for message in messages %}{% for part in message['content'] %}"
            "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
            "{% endfor %}{% endfor %}"
        ),
    )
    model = _random(transformers.LlavaForConditionalGeneration, config)
    return _save(directory, model, processor)


def decider(directory: Path) -> Path:
    """A model that chats, asked for the likeliest of single letters."""
    causal_model(directory)
    labels = {"noul": ["Y", "N"]}
    (directory / "decision.json").write_text(json.dumps({"labels": labels}))
    return directory
