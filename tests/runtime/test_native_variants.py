"""The same source for other processors: each row is computed by itself there too."""

import dataclasses

import pytest
import torch
import transformers

from modelserver_runtime.backends.hardware_processor import processor_flags
from modelserver_runtime.backends.native import encoder_library, library
from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS
from modelserver_runtime.backends.native.decoder import Decoder, Part
from modelserver_runtime.backends.native.weights import PackedModel
from support import tiny_models
from support.native_engine import needs_native_engine

MOST_TOKENS = 256
HERE = [each for each in library.VARIANTS if each.needed <= processor_flags()]


@pytest.fixture(params=HERE, ids=[each.name for each in HERE])
def variant(request, monkeypatch):
    """Made with any compiler: a slow one is as right as a fast one."""
    made = dataclasses.replace(request.param, compilers=("clang", "cc"))
    monkeypatch.setattr(library, "VARIANTS", (made,))
    library.load.cache_clear()
    encoder_library.load.cache_clear()
    yield made
    library.load.cache_clear()
    encoder_library.load.cache_clear()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_models.causal_model(
        tmp_path_factory.mktemp("variants") / "model",
        dtype=torch.bfloat16,
        width=128,
        kind=transformers.Qwen2ForCausalLM,
        most_tokens=MOST_TOKENS,
        key_value_heads=2,
    )


@pytest.fixture
def decoder(variant, directory):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    packed = PackedModel(model, most_positions=MOST_TOKENS)
    packed.reserve(16, BLOCK_TOKENS)
    return Decoder(packed, threads=2, most_rows=MOST_TOKENS, longest=MOST_TOKENS)


def part(tokens, start=0, first_block=0):
    blocks = torch.arange(first_block, first_block + 4, dtype=torch.int32).numpy()
    return Part(token_ids=tokens, start=start, blocks=blocks)


@needs_native_engine
@torch.inference_mode()
def test_logits_are_those_of_transformers(decoder, directory):
    tokens = [3 + 7 * index % 200 for index in range(150)]
    exact_model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    exact = exact_model(input_ids=torch.tensor([tokens])).logits[0, -1]
    [found] = decoder.step([part(tokens)])
    assert torch.linalg.vector_norm(found[-1] - exact) < 0.02 * torch.linalg.vector_norm(exact)


@needs_native_engine
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 13, 60])
def test_no_bit_depends_on_how_many_rows_there_are(decoder, count):
    tokens = [3 + 5 * index % 200 for index in range(60)]
    [whole] = decoder.step([part(tokens)])
    whole = whole.clone()
    others = [9] * 37
    for start in range(0, len(tokens), count):
        piece = tokens[start : start + count]
        [cut, _] = decoder.step([part(piece, start, 4), part(others, 0, 8)])
    assert torch.equal(cut, whole)


def test_a_processor_for_which_there_is_nothing_is_told(monkeypatch):
    monkeypatch.setattr(library, "processor_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(library.DecoderUnavailable, match="none of avx512-bf16, avx512, avx2"):
        library.variant()


def test_the_fastest_that_the_processor_runs_is_taken(monkeypatch):
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    every = {flag for each in library.VARIANTS for flag in each.needed}
    for flags, name in [
        (every, "avx512-bf16"),
        (every - {"avx512_bf16"}, "avx512"),
        (every - {"avx512_bf16", "avx512dq"}, "avx2"),
    ]:
        monkeypatch.setattr(library, "processor_flags", lambda flags=flags: frozenset(flags))
        assert library.variant().name == name


def test_without_a_compiler_it_says_which_one_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(library.shutil, "which", lambda _: None)
    with pytest.raises(library.DecoderUnavailable, match="there is no clang or cc"):
        library.compile_to(tmp_path / "a.so", library.SOURCE, library.VARIANTS[0])
