"""How near a server is to what its machine allows: the arithmetic, and what is measured for it."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig
from transformers import MixtralForCausalLM as Mixtral

from modelserver_runtime.backends.costs import MachineLimits, TokenCost
from modelserver_runtime.backends.machine_limits import measure_limits
from modelserver_runtime.backends.token_cost import token_cost
from modelserver_runtime.bench.command import _is_here
from modelserver_runtime.bench.limits import (
    Load,
    allowed_seconds,
    cost_of,
    lines,
    nearness,
    step_seconds,
)

LIMITS = MachineLimits(
    threads=2, dtype="bfloat16", bytes_per_second=50e9, products={1: 20e9, 32: 300e9, 512: 500e9}
)
COST = TokenCost(weight_bytes=250_000_000, operations=200_000_000, head_operations=50_000_000)


def test_one_answer_waits_for_memory_and_many_for_products():
    assert step_seconds(LIMITS, COST, 1) == pytest.approx(0.25e9 / 50e9)
    assert step_seconds(LIMITS, COST, 32) == pytest.approx(32 * 0.25e9 / 500e9)


def test_prompts_and_answers_are_both_counted():
    load = Load(concurrency=1, requests=2, prompt_tokens=200, generated_tokens=12)
    of_prompts = (200 * 200e6 + 2 * 50e6) / 500e9
    assert allowed_seconds(LIMITS, COST, load) == pytest.approx(of_prompts + 10 * 0.005)


@given(concurrency=st.integers(1, 64), prompt=st.integers(1, 4096), generated=st.integers(0, 4096))
def test_more_work_never_needs_less_time(concurrency, prompt, generated):
    def seconds(prompt_tokens: int, generated_tokens: int) -> float:
        load = Load(
            concurrency=concurrency,
            requests=1,
            prompt_tokens=prompt_tokens,
            generated_tokens=generated_tokens,
        )
        return allowed_seconds(LIMITS, COST, load)

    assert seconds(prompt, generated) <= seconds(prompt + 1, generated)
    assert seconds(prompt, generated) <= seconds(prompt, generated + 1)


def test_people_read_the_limits_and_the_share():
    load = Load(concurrency=1, requests=1, prompt_tokens=0, generated_tokens=101)
    found = nearness(LIMITS, COST, load, seconds=1.0)
    assert found.share == pytest.approx(0.5, abs=0.001)
    text = "\n".join(lines(found, 32))
    assert "reads 50.0 GB/s" in text
    assert "at most 200 tokens/s for one answer, 2000 for 32 at once" in text
    assert "reached 50% of it" in text
    assert json.loads(json.dumps(found.as_json()))["limits"]["threads"] == 2


def test_the_cost_is_that_of_the_model_that_is_asked():
    def report(name: str, weight_bytes: int) -> dict[str, object]:
        cost = {"weight_bytes": weight_bytes, "operations": 2, "head_operations": 3}
        return {"name": name, "aliases": [], "loaded": {"threads": 4, "token_cost": cost}}

    models = {"models": [{"name": "none", "aliases": [], "loaded": None}, report("a", 1)]}
    assert cost_of(models, "a") == (TokenCost(weight_bytes=1, operations=2, head_operations=3), 4)
    assert cost_of(models, "none") is None
    assert cost_of({}, "a") is None


def test_a_token_costs_all_matrices_but_those_that_are_looked_up():
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=100, tie_word_embeddings=False,
    )  # fmt: skip
    layers = 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64)
    cost = token_cost(LlamaForCausalLM(config).to(torch.bfloat16))
    assert cost == TokenCost(
        weight_bytes=2 * (layers + 3200), operations=2 * layers, head_operations=2 * 3200
    )


def test_gpt2_is_known_and_experts_are_not():
    small = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=100)
    cost = token_cost(GPT2LMHeadModel(small))
    assert cost is not None
    assert cost.operations == 2 * 12 * 32 * 32
    experts = MixtralConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=100, num_local_experts=2,
    )  # fmt: skip
    assert token_cost(Mixtral(experts)) is None


@pytest.mark.slow
def test_a_machine_reads_and_multiplies():
    found = measure_limits(1, rows=(1, 4), shapes=((256, 128),))
    assert found.bytes_per_second > 0
    assert found.products.keys() == {1, 4}
    assert min(found.products.values()) > 0
    assert torch.get_num_threads() >= 1


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://[::1]:80", True),
        ("http://10.0.0.1", False),
        ("https://models.example.com/a", False),
    ],
)
def test_limits_are_of_use_only_beside_the_server(url, is_here):
    assert _is_here(url) is is_here
