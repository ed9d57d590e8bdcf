"""`python -m bench.generating.models MODEL FOLDER`: makes a model of random weights in bf16.

  llama    30 layers of 576 with grouped heads: 125 million parameters are read for each token, and
           18 million more are the embeddings
  gpt2     GPT-2 of 12 layers of 768, 110 million parameters: not of the classes the fast path takes
  mixtral  8 experts of which 2 are used, 8 layers of 256: a small mixture of experts

All have the tokenizer of `bench.serving.model`: one word is one token. Weights of the output layer
for special tokens are zero, so that they are never the most likely ones: no answer ends early.

Deep models of small random weights forget their prompt and say one word for ever, which flatters
whoever guesses ahead, and says little about who is right. So embeddings are large beside what the
layers add, and attention looks at few words: answers are as varied as text.
"""

import argparse
import sys
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, PreTrainedModel

from bench.generating.folders import GPT2, LLAMA, MADE, MIXTRAL
from bench.serving import words
from bench.serving.model import make_tokenizer
from bench.serving.model_folder import SEED, is_complete, mark_complete

MOST_TOKENS = 2048
_EMBEDDINGS = 50.0  # times 0.02, the usual deviation of weights: one
_ATTENTION = 3.0  # of queries and of keys: softmax over numbers that differ by two or so
_END = words.vocabulary().index(words.END_OF_TEXT)
_COMMON = {
    "vocab_size": words.VOCABULARY_SIZE,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": _END,
    "pad_token_id": _END,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generating.models")
    parser.add_argument("model", choices=MADE)
    parser.add_argument("folder", type=Path, help="where the model's files go")
    given = parser.parse_args()
    if not is_complete(given.folder):
        tokenizer = make_tokenizer()
        tokenizer.model_max_length = MOST_TOKENS
        tokenizer.save_pretrained(given.folder)
        make(given.model).save_pretrained(given.folder)
        mark_complete(given.folder)
    return 0


def make(model: str) -> PreTrainedModel:
    torch.manual_seed(SEED)
    made = _MAKERS[model]()
    with torch.no_grad():
        made.get_input_embeddings().weight *= _EMBEDDINGS
        for name, weight in made.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(_ATTENTION)
        made.get_output_embeddings().weight[: len(words.SPECIAL_TOKENS)] = 0
    made.generation_config = GenerationConfig(do_sample=False, eos_token_id=_END, pad_token_id=_END)
    return made.to(torch.bfloat16)


def _llama() -> PreTrainedModel:
    config = transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=MOST_TOKENS,
        **_COMMON,
    )
    return transformers.LlamaForCausalLM(config)


def _gpt2() -> PreTrainedModel:
    config = transformers.GPT2Config(
        n_embd=768, n_layer=12, n_head=12, n_positions=MOST_TOKENS, **_COMMON
    )
    return transformers.GPT2LMHeadModel(config)


def _mixtral() -> PreTrainedModel:
    config = transformers.MixtralConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=MOST_TOKENS,
        sliding_window=None,
        **_COMMON,
    )
    return transformers.MixtralForCausalLM(config)


_MAKERS = {LLAMA: _llama, GPT2: _gpt2, MIXTRAL: _mixtral}


if __name__ == "__main__":
    sys.exit(main())
