"""`python -m bench.generating.gguf_writer FOLDER FILE`: writes a Llama as llama.cpp reads it.

The same numbers: matrices stay the bf16 they are, vectors become float32 because llama.cpp takes no
others. Needs the package `gguf`, which llama.cpp's source holds.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from bench.serving import words

# Whole words are looked up before pairs are merged, so that a vocabulary of words needs no merges.
_WORDS_FIRST = "llama-bpe"
# How a byte-level vocabulary writes the space before a word.
_SPACE = "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}"
# words.CHAT_TEMPLATE without the space that ends a message: it would be no token there, either.
_TEMPLATE = words.CHAT_TEMPLATE.replace("+ ' ' }}", "}}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generating.gguf_writer")
    parser.add_argument("folder", type=Path, help="the model's directory")
    parser.add_argument("file", type=Path, help="what is written")
    given = parser.parse_args()
    unfinished = given.file.with_suffix(".part")
    write(given.folder, unfinished)
    unfinished.rename(given.file)
    return 0


def write(folder: Path, file: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    _describe(writer, config)
    _add_vocabulary(writer)
    for name, values, kind in _tensors(folder, config):
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    head = config["hidden_size"] // config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    special = len(words.SPECIAL_TOKENS)
    vocabulary = words.vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_WORDS_FIRST)
    writer.add_token_list(
        [*vocabulary[:special], *(_SPACE + word for word in vocabulary[special:])]
    )
    kinds = [gguf.TokenType.CONTROL] * special
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(vocabulary) - special))
    writer.add_token_merges([f"{_SPACE} {_SPACE}"])  # there must be one
    end = vocabulary.index(words.END_OF_TEXT)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_unk_token_id(vocabulary.index(words.UNKNOWN))
    writer.add_add_bos_token(value=False)
    writer.add_add_eos_token(value=False)
    writer.add_chat_template(_TEMPLATE)


def _tensors(
    folder: Path, config: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray, gguf.GGMLQuantizationType]]:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  a file, not a dictionary
            values = file.get_tensor(name)
            for part, count in heads.items():
                if part in name:
                    values = _interleaved(values, count)
            target = names.get_name(name, try_suffixes=(".weight",))
            if values.dim() == 1:
                yield target, values.float().numpy(), gguf.GGMLQuantizationType.F32
            else:
                raw = values.contiguous().view(torch.uint8).numpy()
                yield target, raw, gguf.GGMLQuantizationType.BF16


def _interleaved(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary pairs beside each other, as llama.cpp rotates them; Hugging Face has halves."""
    rows = values.shape[0] // heads // 2
    return values.reshape(heads, 2, rows, -1).transpose(1, 2).reshape(values.shape)


if __name__ == "__main__":
    sys.exit(main())
