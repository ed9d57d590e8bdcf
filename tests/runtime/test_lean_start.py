"""A start imports and computes only what the model needs, and loads the same as ever."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import init

from modelserver_runtime.backends.lean_imports import without_compiler
from modelserver_runtime.backends.placeholders import placeholders_stay_empty

# Together they take longer to import than all that a start needs.
UNUSED = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "triton")
LOAD = """
import sys
import warnings
from pathlib import Path
from modelserver_runtime.app.loader import load
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.settings import load_settings

import gc
model = load(load_settings(model_directory=Path(sys.argv[1])), Progress())
assert gc.isenabled()
"""
STATE = """
import torch, transformers
reference = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).state_dict()
network = model.backend._model
loaded = network.state_dict()
assert loaded.keys() == reference.keys()
assert all(torch.equal(loaded[name], reference[name]) for name in loaded)
fresh = transformers.AutoModelForCausalLM.from_config(network.config)
for (name, buffer), (_, same) in zip(network.named_buffers(), fresh.named_buffers(), strict=True):
    assert torch.equal(buffer, same), name
"""


def run_after_load(directory: Path, code: str) -> str:
    """In a process of its own, which has imported nothing before."""
    argv = [sys.executable, "-c", LOAD + code, str(directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_start_imports_nothing_that_it_does_not_need(causal_directory):
    code = f"print([name for name in {UNUSED} if name in sys.modules])"
    assert run_after_load(causal_directory, code) == "[]\n"


@pytest.mark.slow
def test_weights_and_buffers_are_those_of_transformers_own_loading(causal_directory):
    run_after_load(causal_directory, STATE)


@pytest.mark.slow
def test_who_wants_the_compiler_after_the_start_gets_it(causal_directory):
    code = """
import torch
compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(torch.ones(1)).item() == 2
from transformers.utils import is_torch_distributed_available, is_torch_flex_attn_available
assert is_torch_flex_attn_available()
assert is_torch_distributed_available() == torch.distributed.is_available()
"""
    run_after_load(causal_directory, code)


@pytest.mark.slow
def test_who_wants_the_compiler_during_the_start_gets_it():
    code = """
import sys
from modelserver_runtime.backends.lean_imports import import_transformers, without_compiler
import_transformers()
import torch
with without_compiler():
    assert torch.compile(lambda x: x * 3, backend="eager")(torch.ones(1)).item() == 3
assert sys.modules["torch._dynamo"].__file__
"""
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_tensors_in_memory_are_still_filled_with_random_numbers():
    before = init.normal_
    with placeholders_stay_empty():
        filled, placeholder = torch.zeros(64), torch.empty(64, device="meta")
        assert init.normal_(filled, std=2.0).abs().sum() > 0
        assert init.kaiming_uniform_(torch.zeros(4, 4)).abs().sum() > 0
        assert init.normal_(placeholder) is placeholder
    assert init.normal_ is before


def test_a_compiler_that_is_imported_already_keeps_its_place(monkeypatch):
    compiler = ModuleType("torch._dynamo")
    monkeypatch.setitem(sys.modules, "torch._dynamo", compiler)
    with without_compiler():
        assert sys.modules["torch._dynamo"] is compiler
    assert sys.modules["torch._dynamo"] is compiler
