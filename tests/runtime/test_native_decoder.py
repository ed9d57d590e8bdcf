"""The decoder of our own computes what transformers computes, and each row by itself."""

import gc
import time
from pathlib import Path

import pytest
import torch
import transformers

from modelserver_runtime.artifacts import Phase, Progress
from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec, Work
from modelserver_runtime.backends.causal_lm import CausalLanguageModel
from modelserver_runtime.backends.detection import Identity, identify
from modelserver_runtime.backends.loading import LoadOptions
from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS
from modelserver_runtime.backends.native.language_model import MOST_ROWS, NativeLanguageModel
from modelserver_runtime.backends.native.weights import PackedModel, objection
from modelserver_runtime.backends.registry import load_model
from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.settings import Dtype
from support import tiny_models
from support.native_engine import needs_native_engine

pytestmark = needs_native_engine

MOST_TOKENS = 2 * MOST_ROWS
GREEDY = SamplingParameters(max_tokens=8, temperature=0, ignore_end=True)
KINDS = {
    "llama": (transformers.LlamaForCausalLM, {}),
    "llama with tied embeddings": (transformers.LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama with biases": (transformers.LlamaForCausalLM, {"attention_bias": True}),
    "llama with scaled positions": (
        transformers.LlamaForCausalLM,
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "one head of keys": (transformers.LlamaForCausalLM, {"num_key_value_heads": 1}),
    "as many heads of keys": (transformers.LlamaForCausalLM, {"num_key_value_heads": 4}),
    "wide heads": (transformers.LlamaForCausalLM, {"head_dim": 96}),
    "mistral": (transformers.MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (transformers.Qwen2ForCausalLM, {}),
    "qwen3": (transformers.Qwen3ForCausalLM, {"head_dim": 32}),
}
REFUSED = {
    "its dtype is float32": (transformers.LlamaForCausalLM, torch.float32, {}),
    "is not one of": (transformers.GemmaForCausalLM, torch.bfloat16, {"head_dim": 32}),
    "a window only": (transformers.MistralForCausalLM, torch.bfloat16, {"sliding_window": 8}),
    "heads are 16 wide": (transformers.LlamaForCausalLM, torch.bfloat16, {"head_dim": 16}),
    "activation is gelu": (transformers.LlamaForCausalLM, torch.bfloat16, {"hidden_act": "gelu"}),
    "have biases": (transformers.LlamaForCausalLM, torch.bfloat16, {"mlp_bias": True}),
    "rotated by dynamic": (
        transformers.LlamaForCausalLM,
        torch.bfloat16,
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}},
    ),
}


def made(folder: Path, kind, dtype=torch.bfloat16, **options) -> Path:
    config = {"num_key_value_heads": 2, **options}
    heads = config.pop("num_key_value_heads")
    return tiny_models.causal_model(
        folder / "model",
        dtype=dtype,
        width=128,
        kind=kind,
        most_tokens=MOST_TOKENS,
        key_value_heads=heads,
        **config,
    )


def loaded(directory: Path, *, dtype: Dtype = Dtype.AUTO):
    options = LoadOptions(directory=directory, name="tiny", threads=2, dtype=dtype)
    progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
    return load_model(options, identify(directory, "Auto"), progress)


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> NativeLanguageModel:
    directory = made(tmp_path_factory.mktemp("native"), transformers.Qwen3ForCausalLM, head_dim=32)
    made_backend = loaded(directory).backend
    assert isinstance(made_backend, NativeLanguageModel)
    return made_backend


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(1, 300, (length,), generator=generator).tolist())


def answer(backend, prompt, *, chunk=MOST_TOKENS, salt="", sampling=GREEDY, sequence_id=1):
    """The outputs with tokens of one sequence; its prompt is computed `chunk` tokens at a time."""
    spec = SequenceSpec(
        sequence_id=sequence_id, prompt_token_ids=prompt, sampling=sampling, cache_salt=salt
    )
    backend.add(spec)
    outputs, left = [], len(prompt)
    while len(outputs) < sampling.max_tokens:
        tokens = min(chunk, left) or 1
        left -= min(chunk, left)
        [*before, output] = backend.step([Work(sequence_id=sequence_id, tokens=tokens)])
        assert not any(each.token_id or each.failure for each in before)
        assert output.failure is None
        if output.token_id is not None:
            outputs.append(output)
    backend.free(sequence_id)
    return outputs


def tokens_of(outputs):
    return [output.token_id for output in outputs]


@pytest.mark.parametrize("name", KINDS)
def test_its_logits_are_as_exact_as_those_of_transformers(tmp_path, name):
    kind, options = KINDS[name]
    directory = made(tmp_path, kind, **options)
    backend = loaded(directory).backend
    assert isinstance(backend, NativeLanguageModel)
    prompt = prompt_of(3 * BLOCK_TOKENS + 17)
    exact = by_transformers(directory, torch.float32, prompt)
    rounded = by_transformers(directory, torch.bfloat16, prompt)
    assert distance(backend.logits(prompt), exact) < 1.5 * distance(rounded, exact)


@torch.inference_mode()
def by_transformers(directory: Path, dtype: torch.dtype, prompt) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    return model(input_ids=torch.tensor([prompt])).logits[0, -1].float()


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other))


@pytest.mark.parametrize("words", REFUSED)
def test_what_it_cannot_compute_is_left_to_transformers(tmp_path, words):
    kind, dtype, options = REFUSED[words]
    directory = made(tmp_path, kind, dtype, **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    assert words in objection(model)
    made_model = loaded(directory)
    assert isinstance(made_model.backend, CausalLanguageModel)
    assert made_model.description.engine == "transformers"
    assert words in made_model.description.engine_reason


def test_a_model_that_is_stored_in_float32_is_computed_natively_if_bfloat16_is_chosen(tmp_path):
    directory = made(tmp_path, transformers.LlamaForCausalLM, torch.float32)
    assert isinstance(loaded(directory, dtype=Dtype.BFLOAT16).backend, NativeLanguageModel)
    assert isinstance(loaded(directory).backend, CausalLanguageModel)


class TestWeightsOfEightBits:
    @pytest.mark.parametrize("name", ["llama with tied embeddings", "llama with biases", "qwen3"])
    def test_logits_are_nearly_those_of_the_model(self, tmp_path, name):
        kind, options = KINDS[name]
        directory = made(tmp_path, kind, **options)
        backend = loaded(directory, dtype=Dtype.INT8).backend
        prompt = prompt_of(2 * BLOCK_TOKENS + 5)
        exact = by_transformers(directory, torch.float32, prompt)
        rounded = by_transformers(directory, torch.bfloat16, prompt)
        # bf16 rounds to 1/512 of a number, eight bits to 1/254 of the largest of a column.
        assert distance(backend.logits(prompt), exact) < 10 * distance(rounded, exact)

    def test_an_answer_depends_on_nothing_else(self, tmp_path):
        backend = loaded(made(tmp_path, transformers.LlamaForCausalLM), dtype=Dtype.INT8).backend
        prompt = prompt_of(150)
        whole = tokens_of(answer(backend, prompt, salt="whole"))
        for chunk in (1, 7, 13, 100):
            assert tokens_of(answer(backend, prompt, chunk=chunk, salt=f"{chunk}")) == whole

    def test_they_take_half_of_the_memory(self, tmp_path):
        directory = made(tmp_path, transformers.LlamaForCausalLM)
        whole, half = (
            loaded(directory, dtype=each).description for each in (Dtype.AUTO, Dtype.INT8)
        )
        assert (whole.dtype, half.dtype) == ("bfloat16", "int8")
        assert half.engine == "native"
        assert half.memory_bytes < 0.75 * whole.memory_bytes  # embeddings stay as they are
        assert half.token_cost.weight_bytes == whole.token_cost.weight_bytes // 2

    def test_who_cannot_compute_them_says_so(self, tmp_path):
        directory = made(tmp_path, transformers.GemmaForCausalLM, head_dim=32)
        with pytest.raises(InvalidConfiguration, match=r"8 bits.*GemmaForCausalLM is not one of"):
            loaded(directory, dtype=Dtype.INT8)

    def test_they_are_for_text_that_is_generated(self, tmp_path):
        options = LoadOptions(directory=tmp_path, name="tiny", dtype=Dtype.INT8)
        identity = Identity(task="Embeddings", architecture="BertModel")
        progress = Progress(phase=Phase.LOADING, clock=time.monotonic)
        with pytest.raises(InvalidConfiguration, match="Int8 is for TextGeneration"):
            load_model(options, identity, progress)


def test_what_is_said_about_the_model_does_not_depend_on_who_computes_it(tmp_path):
    directory = made(tmp_path, transformers.LlamaForCausalLM)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    description = loaded(directory).description
    assert description.parameters == model.num_parameters()
    assert description.dtype == "bfloat16"
    assert description.device == "cpu"
    assert description.memory_bytes >= 2 * description.parameters
    assert (description.engine, description.engine_reason) == ("native", "")


@pytest.mark.parametrize("chunk", [1, 7, BLOCK_TOKENS, 100])
def test_an_answer_does_not_depend_on_how_its_prompt_is_cut(backend, chunk):
    prompt = prompt_of(150, seed=chunk)
    whole = answer(backend, prompt, salt="whole")
    assert tokens_of(answer(backend, prompt, chunk=chunk, salt="cut")) == tokens_of(whole)


def test_a_prompt_of_more_rows_than_a_call_takes_is_one_prompt(backend):
    prompt = prompt_of(MOST_ROWS + 100)
    at_once = answer(backend, prompt, salt="at once")
    assert tokens_of(answer(backend, prompt, chunk=200, salt="cut")) == tokens_of(at_once)


def test_a_prompt_that_begins_like_one_before_is_not_computed_again(backend):
    prompt = prompt_of(3 * BLOCK_TOKENS + 1, seed=3)
    first, second = answer(backend, prompt, salt="same"), answer(backend, prompt, salt="same")
    other = answer(backend, prompt, salt="other")
    assert tokens_of(first) == tokens_of(second) == tokens_of(other)
    cached = [outputs[0].cached_tokens for outputs in (first, second, other)]
    assert cached == [0, 3 * BLOCK_TOKENS, 0]
    assert all(output.cached_tokens == 0 for output in second[1:])


def test_at_least_one_token_of_a_prompt_is_computed(backend):
    prompt = prompt_of(2 * BLOCK_TOKENS, seed=4)
    first, second = answer(backend, prompt), answer(backend, prompt)
    assert second[0].cached_tokens == BLOCK_TOKENS
    assert tokens_of(first) == tokens_of(second)


def test_a_cached_prompt_in_parts_is_cached_all_the_same(backend):
    prompt = prompt_of(3 * BLOCK_TOKENS + 5, seed=5)
    whole = answer(backend, prompt)
    parts = answer(backend, prompt, chunk=50)
    assert parts[0].cached_tokens == 3 * BLOCK_TOKENS
    assert tokens_of(parts) == tokens_of(whole)


def test_the_next_turn_finds_the_answer_of_the_last_one(backend):
    prompt = prompt_of(BLOCK_TOKENS - 3, seed=12)
    told = tokens_of(answer(backend, prompt))
    [first, *_] = answer(backend, (*prompt, *told, 5, 6, 7))
    assert first.cached_tokens == BLOCK_TOKENS
    [alone, *_] = answer(backend, (*prompt, *told, 5, 6, 7), salt="alone")
    assert alone.token_id == first.token_id


def test_log_probabilities_of_a_prompt_are_those_of_its_tokens(backend):
    prompt = prompt_of(70, seed=6)
    sampling = SamplingParameters(max_tokens=1, temperature=0, prompt_logprobs=2)
    [output] = answer(backend, prompt, chunk=30, sampling=sampling)
    assert [entry.token_id for entry in output.prompt_logprobs] == list(prompt[1:])
    [again] = answer(backend, prompt, sampling=sampling)
    assert again.prompt_logprobs == output.prompt_logprobs


def test_a_token_that_the_model_does_not_have_fails_alone(backend):
    size = backend.limits.vocabulary_size
    good, bad = prompt_of(10), (1, size)
    expected = answer(backend, good)[0]
    for sequence_id, prompt in ((1, good), (2, bad)):
        spec = SequenceSpec(sequence_id=sequence_id, prompt_token_ids=prompt, sampling=GREEDY)
        backend.add(spec)
    outputs = backend.step([Work(sequence_id=1, tokens=10), Work(sequence_id=2, tokens=2)])
    by_id = {output.sequence_id: output for output in outputs}
    assert by_id[1].token_id == expected.token_id
    assert by_id[2].failure is not None
    for sequence_id in by_id:
        backend.free(sequence_id)


def test_no_sequence_is_taken_that_its_memory_could_not_hold(backend, tmp_path):
    directory = made(tmp_path, transformers.LlamaForCausalLM)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    small = NativeLanguageModel(
        PackedModel(model, most_positions=MOST_TOKENS),
        backend.tokenizer,
        limits=backend.limits,
        defaults=backend.defaults,
        threads=1,
        blocks=2,
    )
    assert small.limits.max_model_length == 2 * BLOCK_TOKENS


def test_blocks_that_are_kept_are_found_though_others_had_to_go(backend):
    """Of a sequence that is gone the last blocks go first."""
    prompt = prompt_of(4 * BLOCK_TOKENS + 1, seed=21)
    answer(backend, prompt, salt="long ago")
    taken = [backend._pool.take() for _ in range(backend._pool.available - 2)]
    for block in taken:
        backend._pool.release(block)
    [first, *_] = answer(backend, prompt, salt="long ago")
    assert first.cached_tokens == 2 * BLOCK_TOKENS


def test_all_blocks_come_back(backend):
    before = backend._pool.available
    answer(backend, prompt_of(200, seed=8))
    assert backend._pool.available == before


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_no_thread_is_left_of_a_model_that_is_gone(tmp_path):
    backend = loaded(made(tmp_path, transformers.LlamaForCausalLM)).backend
    before = threads()
    del backend
    gc.collect()
    assert threads() == before - 1
