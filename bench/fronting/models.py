"""`python -m bench.fronting.models ABILITY SIZE FOLDER`: makes a model of random weights.

Encoders are BERTs in float32, as most are published; the small Llama is bf16, as the large one is.
All have the tokenizer of `bench.serving.model`: one word is one token.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

from bench.fronting.folders import MOST_TOKENS, SIZES, Ability, Size
from bench.serving import words
from bench.serving.model import make_tokenizer
from bench.serving.model_folder import SEED, is_complete, mark_complete

_END = words.vocabulary().index(words.END_OF_TEXT)
_LABELS = ("negative", "neutral", "positive")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fronting.models", description=__doc__)
    parser.add_argument("ability", type=Ability, choices=list(Ability))
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("folder", type=Path, help="where the model's files go")
    given = parser.parse_args()
    if not is_complete(given.folder):
        make(given.ability, SIZES[given.size], given.folder)
        mark_complete(given.folder)
    return 0


def make(ability: Ability, size: Size, folder: Path) -> None:
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = MOST_TOKENS
    tokenizer.save_pretrained(folder)
    _MAKERS[ability](size).save_pretrained(folder)


def _classifier(size: Size) -> PreTrainedModel:
    labels = dict(enumerate(_LABELS))
    config = _bert(size, id2label=labels, label2id={name: n for n, name in labels.items()})
    return transformers.BertForSequenceClassification(config)


def _encoder(size: Size) -> PreTrainedModel:
    return transformers.BertModel(_bert(size))


def _bert(size: Size, **more: object) -> transformers.BertConfig:
    return transformers.BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=MOST_TOKENS,
        pad_token_id=_END,
        **more,
    )


def _llama(size: Size) -> PreTrainedModel:
    config = transformers.LlamaConfig(
        vocab_size=words.VOCABULARY_SIZE,
        hidden_size=size.hidden,
        # Three matrices instead of two: two thirds of an encoder's have as many parameters.
        intermediate_size=size.inner * 2 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=MOST_TOKENS,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=_END,
        pad_token_id=_END,
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        # A special token is never the most likely one: no answer ends early.
        model.lm_head.weight[: len(words.SPECIAL_TOKENS)] = 0
    return model.to(torch.bfloat16)


_MAKERS = {
    Ability.CLASSIFICATION: _classifier,
    Ability.EMBEDDINGS: _encoder,
    Ability.GENERATION: _llama,
}


if __name__ == "__main__":
    sys.exit(main())
