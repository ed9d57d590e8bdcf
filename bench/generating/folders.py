"""Which models are generated with, and where their files are; imports nothing large."""

import asyncio
import os
import sys
from pathlib import Path

from bench.fronting.folders import MINILM, Ability, Kind
from bench.serving.model_folder import SEED, cache_folder, is_complete

LLAMA = "llama"
GPT2 = "gpt2"
MIXTRAL = "mixtral"
QUICKSTART = "quickstart"
# Those of random weights, which `bench.generating.models` makes.
MADE = (LLAMA, GPT2, MIXTRAL)

# The encoder that `bench.server` serves, too.
ENCODER = Kind(ability=Ability.EMBEDDINGS, size=MINILM)

_NAMES = {
    LLAMA: f"llama-30x576-varied-{SEED}",
    GPT2: f"gpt2-12x768-varied-{SEED}",
    MIXTRAL: f"mixtral-8x256-varied-{SEED}",
}


def folder_of(model: str) -> Path:
    """Named by what decides the weights: a new seed or shape must get a new name."""
    if model == QUICKSTART:
        return quickstart_folder()
    return cache_folder() / _NAMES[model]


def quickstart_folder() -> Path:
    """Where the trained model is; $MODELSERVER_QUICKSTART_MODEL names another place."""
    named = os.environ.get("MODELSERVER_QUICKSTART_MODEL")
    return Path(named) if named else cache_folder() / "quickstart"


async def make_missing(model: str) -> Path:
    """In a process of its own, whose memory ends with it."""
    folder = folder_of(model)
    if model in MADE and not is_complete(folder):
        await _python("bench.generating.models", model, str(folder))
    return folder


async def _python(module: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments)
    if await process.wait():
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {process.returncode}")
