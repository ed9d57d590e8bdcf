"""Which models the benchmark serves, and where their files are; imports nothing large."""

import asyncio
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.serving.model_folder import SEED, cache_folder, is_complete, model_folder

# What a request's text may have; more than the longest one that is sent.
MOST_TOKENS = 512


class Ability(StrEnum):
    """What a model is for; the value is the name of the runtime's task."""

    CLASSIFICATION = "TextClassification"
    EMBEDDINGS = "Embeddings"
    GENERATION = "TextGeneration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`vocabulary` rows of the embeddings; the tokenizer knows the first 32,000 of them."""

    name: str
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    heads: int = 12


# As all-MiniLM-L6 (23 M parameters with this vocabulary) and RoBERTa base (125 M).
MINILM = Size(name="minilm", layers=6, hidden=384, inner=1536, vocabulary=32_000)
BASE = Size(name="125m", layers=12, hidden=768, inner=3072, vocabulary=50_265)
SIZES = {size.name: size for size in (MINILM, BASE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One model of random weights."""

    ability: Ability
    size: Size

    @property
    def name(self) -> str:
        """As figures and the API call it: classification_minilm."""
        return f"{self.ability.name.lower()}_{self.size.name}"

    @property
    def folder(self) -> Path:
        if self.is_the_llama:
            return model_folder()
        return cache_folder() / f"{self.name}-{SEED}"

    @property
    def is_the_llama(self) -> bool:
        """The one that `bench.runtime` serves."""
        return self.ability is Ability.GENERATION and self.size is BASE


KINDS = [Kind(ability=ability, size=size) for ability in Ability for size in SIZES.values()]
LLAMA = Kind(ability=Ability.GENERATION, size=BASE)


async def make_missing(kinds: list[Kind]) -> None:
    """In processes of their own, whose memory ends with them."""
    for kind in kinds:
        if is_complete(kind.folder):
            continue
        module, given = "bench.fronting.models", [kind.ability.value, kind.size.name]
        if kind.is_the_llama:
            module, given = "bench.serving.model", []
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *given, str(kind.folder)
        )
        if await process.wait():
            raise RuntimeError(f"{module} could not make {kind.folder}")
