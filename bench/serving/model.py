"""`python -m bench.serving.model FOLDER`: makes the Llama of random weights that is served.

12 layers, hidden size 768, 32,000 tokens, bf16: 125 million parameters, of which the embeddings and
the output layer are 49 million. The same seed gives the same weights.
"""

import argparse
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from bench.serving import words
from bench.serving.model_folder import SEED, is_complete, mark_complete

_END = words.vocabulary().index(words.END_OF_TEXT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.model", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model's files go")
    folder = parser.parse_args().folder
    if not is_complete(folder):
        make_tokenizer().save_pretrained(folder)
        make_model().save_pretrained(folder)
        mark_complete(folder)
    return 0


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(_configuration())
    with torch.no_grad():
        # A special token is never the most likely one: no answer ends early, and every token shows.
        model.lm_head.weight[: len(words.SPECIAL_TOKENS)] = 0
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=_END, pad_token_id=_END
    )
    return model.to(torch.bfloat16)


def _configuration() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=words.VOCABULARY_SIZE,
        hidden_size=768,
        intermediate_size=1728,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=_END,
        pad_token_id=_END,
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    ids = {word: token_id for token_id, word in enumerate(words.vocabulary())}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=words.UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=words.UNKNOWN,
        eos_token=words.END_OF_TEXT,
        pad_token=words.END_OF_TEXT,
        additional_special_tokens=[words.USER_TURN, words.ASSISTANT_TURN],
        chat_template=words.CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


if __name__ == "__main__":
    sys.exit(main())
