"""Computes steps of a model with `decoder.c`: rows of tokens in, logits out."""

import weakref
from collections.abc import Sequence
from ctypes import CDLL, byref
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelserver_runtime.backends.native import library
from modelserver_runtime.backends.native.structures import BatchStructure
from modelserver_runtime.backends.native.weights import PackedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Tokens of one sequence that follow each other, of which the first is number `start`.

    `blocks` hold the keys and values of everything up to the last of them. Logits are computed of
    the last token only, or of all with `wants_all`.
    """

    token_ids: Sequence[int]
    start: int
    blocks: NDArray[np.int32]
    wants_all: bool = False


class Decoder:
    """Owns threads, beside the one that calls; not to be called by two at once.

    `close` ends the threads; so does it when nobody has the decoder any more.
    Tokens must be of the model's vocabulary, and positions below `longest`: nothing checks them.
    """

    def __init__(self, model: PackedModel, *, threads: int, most_rows: int, longest: int) -> None:
        self._model = model
        self._library = library.load()
        self._most_rows = most_rows
        self._vocabulary = int(model.structure.vocabulary)
        self._logits = torch.empty(0, self._vocabulary)
        self._team = self._library.decoder_start(
            byref(model.structure), threads, most_rows, longest
        )
        # The threads read the model until they have ended, so it has to outlive them.
        self.close = weakref.finalize(self, _stop, self._library, self._team, model)

    def step(self, parts: Sequence[Part]) -> list[Tensor]:
        """Of each part its logits: float32 of shape [tokens or 1, vocabulary].

        They are valid until the next step, and may be changed: fresh memory for them would cost a
        page fault for each thousand logits.
        """
        rows = _Rows.of(parts)
        if rows.tokens.size > self._most_rows:
            raise ValueError(f"{rows.tokens.size} rows are more than {self._most_rows}")
        if rows.chosen.size > len(self._logits):
            self._logits = torch.empty(rows.chosen.size, self._vocabulary)
        logits = self._logits[: rows.chosen.size]
        self._library.decoder_step(self._team, byref(rows.structure(logits)))
        return list(torch.split(logits, rows.wanted))


def _stop(library: CDLL, team: int, _: PackedModel) -> None:
    library.decoder_stop(team)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What a step's structure points to; kept until the step is over."""

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    tables: NDArray[np.uint64]
    chosen: NDArray[np.int32]
    wanted: list[int]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "_Rows":
        counts = [len(part.token_ids) for part in parts]
        ends = np.cumsum(counts)
        wanted = [count if part.wants_all else 1 for part, count in zip(parts, counts, strict=True)]
        return cls(
            tokens=np.concatenate([np.asarray(part.token_ids, np.int32) for part in parts]),
            positions=np.concatenate(
                [
                    np.arange(part.start, part.start + count, dtype=np.int32)
                    for part, count in zip(parts, counts, strict=True)
                ]
            ),
            sequences=np.repeat(np.arange(len(parts), dtype=np.int32), counts),
            tables=np.array([part.blocks.ctypes.data for part in parts], dtype=np.uint64),
            chosen=np.concatenate(
                [
                    np.arange(end - count, end, dtype=np.int32)
                    for end, count in zip(ends, wanted, strict=True)
                ]
            ),
            wanted=wanted,
        )

    def structure(self, logits: Tensor) -> BatchStructure:
        return BatchStructure(
            rows=self.tokens.size,
            chosen=self.chosen.size,
            token=self.tokens.ctypes.data,
            position=self.positions.ctypes.data,
            sequence=self.sequences.ctypes.data,
            table=self.tables.ctypes.data,
            chosen_rows=self.chosen.ctypes.data,
            logits=logits.data_ptr(),
        )
