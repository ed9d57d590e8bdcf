"""Computes the vectors of tokens with `encoder.c`: texts in, float32 vectors out."""

import weakref
from collections.abc import Iterator, Sequence
from ctypes import CDLL, byref

import numpy as np
import torch
from torch import Tensor

from modelserver_runtime.backends.native import encoder_library
from modelserver_runtime.backends.native.encoder_library import BatchStructure
from modelserver_runtime.backends.native.encoder_weights import PackedEncoder

# Rows of one call: what is between its layers stays in the cache, and the threads still find
# enough pieces. A text is not cut, so that a longer one has a call of its own.
_MOST_ROWS = 1024

type TokenIds = Sequence[int]


class Encoder:
    """Owns threads, beside the one that calls; not to be called by two at once.

    `close` ends the threads; so does it when nobody has the encoder any more.
    Tokens must be of the model's vocabulary, and texts not longer than `longest`: the C code reads
    what they point to.
    See `backends.embedder.TokenEncoder`.
    """

    pads = False

    def __init__(self, model: PackedEncoder, *, threads: int, longest: int) -> None:
        self._first_position = model.first_position
        self._hidden = int(model.structure.hidden)
        self._vocabulary = model.vocabulary
        self._longest = longest
        self._most_rows = max(_MOST_ROWS, longest)
        self._library = encoder_library.load()
        self._team = self._library.encoder_start(
            byref(model.structure), threads, self._most_rows, longest
        )
        # The threads read the model until they have ended, so it has to outlive them.
        self.close = weakref.finalize(self, _stop, self._library, self._team, model)

    def vectors(self, texts: Sequence[TokenIds]) -> list[Tensor]:
        """Of each text its tokens' vectors: float32 of shape [tokens, dimensions]."""
        self._require_readable(texts)
        return [rows for part in _calls(texts, self._most_rows) for rows in self._step(part)]

    def _require_readable(self, texts: Sequence[TokenIds]) -> None:
        if (longest := max(map(len, texts))) > self._longest:
            raise ValueError(f"A text has {longest} tokens, and at most {self._longest} have room")
        for text in texts:
            if text and not 0 <= min(text) <= max(text) < self._vocabulary:
                raise ValueError(f"A token of a text is not one of the model's {self._vocabulary}")

    def _step(self, texts: Sequence[TokenIds]) -> Sequence[Tensor]:
        lengths = [len(text) for text in texts]
        begin = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        tokens = np.concatenate([np.asarray(text, np.int32) for text in texts])
        within = np.arange(tokens.size, dtype=np.int32) - np.repeat(begin[:-1], lengths)
        positions = within + np.int32(self._first_position)
        vectors = torch.empty(tokens.size, self._hidden)
        batch = BatchStructure(
            rows=tokens.size,
            texts=len(texts),
            token=tokens.ctypes.data,
            position=positions.ctypes.data,
            begin=begin.ctypes.data,
            vectors=vectors.data_ptr(),
        )
        self._library.encoder_step(self._team, byref(batch))
        return torch.split(vectors, lengths)


def _stop(library: CDLL, team: int, _: PackedEncoder) -> None:
    library.encoder_stop(team)


def _calls(texts: Sequence[TokenIds], most_rows: int) -> Iterator[Sequence[TokenIds]]:
    """Texts that follow each other, as many as have `most_rows` tokens together."""
    begin, rows = 0, 0
    for index, text in enumerate(texts):
        if rows + len(text) > most_rows:
            yield texts[begin:index]
            begin, rows = index, 0
        rows += len(text)
    yield texts[begin:]
