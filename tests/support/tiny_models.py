"""Models of every served kind with random weights, made and loaded in no time."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('Unknown role') }}{% endif %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HERMES_TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}"
    "<|{{ 'user' if message['role'] == 'tool' else message['role'] }}|>"
    "{% if message['role'] == 'tool' %}{{ message['name'] }}: {% endif %}{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "<tool_call>{{ call['function'] | tojson }}</tool_call>{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_CORPUS = (
    "the quick brown fox jumps over the lazy dog and runs away from the old house",
    "servers answer questions when models are loaded and warm, so be patient",
    "Grüße aus Köln: naïve café, 你好世界, emoji 🙂 and more 0123456789 !?.,;:-",
    "positive negative neutral question context answer sentence one two three",
)
_SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_ENCODER_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MOST_TOKENS = 256


def _byte_level_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", model_max_length=MOST_TOKENS
    )


def _word_piece_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=_ENCODER_SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def _save(directory: Path, *parts: object) -> Path:
    for part in parts:
        part.save_pretrained(directory)
    return directory


def _random(kind: type[PreTrainedModel], config: transformers.PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(7)
    return kind(config).eval()


def _disturb(model: PreTrainedModel) -> None:
    """Norms of one and biases of nothing would hide it if they were forgotten."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name:
                parameter.normal_(0.0, 2.0)
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "norm" in name else 0.0, 0.2)


def causal_model(
    directory: Path,
    *,
    dtype: torch.dtype = torch.float32,
    template: str | None = CHAT_TEMPLATE,
    most_tokens: int = MOST_TOKENS,
    special_tokens: Iterable[str] = (),
    width: int = 32,
    key_value_heads: int = 2,
    kind: type[transformers.PreTrainedModel] = transformers.LlamaForCausalLM,
    **options: object,
) -> Path:
    """A `width` of 128 is what the decoder of our own can compute, in bfloat16."""
    tokenizer = _byte_level_tokenizer()
    tokenizer.chat_template = template
    tokenizer.model_max_length = most_tokens
    tokenizer.add_special_tokens({"additional_special_tokens": list(special_tokens)})
    config = kind.config_class(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=most_tokens,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.4,
        **options,
    )
    model = _random(kind, config)
    if width > 32:
        _disturb(model)
    model = model.to(dtype)
    return _save(directory, model, tokenizer)


def _bert(tokenizer: PreTrainedTokenizerFast, **options: object) -> transformers.BertConfig:
    return transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.4,
        **options,
    )


def _labels(names: Iterable[str]) -> dict[str, object]:
    listed = list(names)
    return {
        "id2label": dict(enumerate(listed)),
        "label2id": {name: index for index, name in enumerate(listed)},
    }


def _bert_model(directory: Path, kind: type[PreTrainedModel], **options: object) -> Path:
    tokenizer = _word_piece_tokenizer()
    return _save(directory, _random(kind, _bert(tokenizer, **options)), tokenizer)


def classifier(directory: Path) -> Path:
    labels = _labels(["negative", "neutral", "positive"])
    return _bert_model(directory, transformers.BertForSequenceClassification, **labels)


def cross_encoder(directory: Path) -> Path:
    labels = _labels(["relevance"])
    return _bert_model(directory, transformers.BertForSequenceClassification, **labels)


def zero_shot_classifier(directory: Path) -> Path:
    labels = _labels(["contradiction", "neutral", "entailment"])
    path = _bert_model(directory, transformers.BertForSequenceClassification, **labels)
    (path / "README.md").write_text("---\npipeline_tag: zero-shot-classification\n---\n# model\n")
    return path


def token_classifier(directory: Path) -> Path:
    labels = _labels(["O", "B-PER", "I-PER"])
    return _bert_model(directory, transformers.BertForTokenClassification, **labels)


def masked_model(directory: Path) -> Path:
    return _bert_model(directory, transformers.BertForMaskedLM)


def question_answerer(directory: Path) -> Path:
    return _bert_model(directory, transformers.BertForQuestionAnswering)


def encoder(directory: Path) -> Path:
    return _bert_model(directory, transformers.BertModel)


def wide_encoder(
    directory: Path,
    kind: type[PreTrainedModel] = transformers.BertModel,
    *,
    dtype: torch.dtype = torch.float32,
    **options: object,
) -> Path:
    """Heads of 32 and inner layers of 96: what the native encoder's registers take."""
    tokenizer = _word_piece_tokenizer()
    config = kind.config_class(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 300,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": 0.1,
            **options,
        }
    )
    tokenizer.model_max_length = MOST_TOKENS
    model = _random(kind, config)
    _disturb(model)
    return _save(directory, model.to(dtype), tokenizer)


def sentence_transformer(directory: Path, *, pooling: str = "pooling_mode_cls_token") -> Path:
    encoder(directory)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return directory


def text_to_text(directory: Path) -> Path:
    tokenizer = _word_piece_tokenizer()
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id,
        task_specific_params={"summarization": {"prefix": "summarize: "}},
    )
    model = _random(transformers.T5ForConditionalGeneration, config)
    return _save(directory, model, tokenizer)


def translator(directory: Path) -> Path:
    tokenizer = _word_piece_tokenizer()
    config = transformers.MarianConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id,
        forced_eos_token_id=None,
    )
    return _save(directory, _random(transformers.MarianMTModel, config), tokenizer)


def image_classifier(directory: Path) -> Path:
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        **_labels(["cat", "dog", "bird"]),
    )
    model = _random(transformers.ViTForImageClassification, config)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    return _save(directory, model, processor)


def _wav2vec2(**options: object) -> transformers.Wav2Vec2Config:
    return transformers.Wav2Vec2Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        conv_dim=(16, 16),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **options,
    )


def speech_model(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    (directory / "vocab.json").write_text(
        json.dumps({letter: index for index, letter in enumerate(letters)})
    )
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(directory / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor()
    processor = transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)
    config = _wav2vec2(vocab_size=len(letters), pad_token_id=0)
    return _save(directory, _random(transformers.Wav2Vec2ForCTC, config), processor)


def audio_classifier(directory: Path) -> Path:
    config = _wav2vec2(**_labels(["speech", "music"]), classifier_proj_size=16)
    model = _random(transformers.Wav2Vec2ForSequenceClassification, config)
    return _save(directory, model, transformers.Wav2Vec2FeatureExtractor())
