"""Text to vectors of length 1: an encoder of tokens, and what makes one vector of a text's."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import Computation, EmbeddingItem, EmbeddingLimits
from modelserver_runtime.backends.pooling import Pooling
from modelserver_runtime.backends.tokenization import TransformersTokenizer

_WARM_UP_TOKENS = 8


class TokenEncoder(Protocol):
    """`pads` if texts that are computed together are made as long as the longest."""

    @property
    def pads(self) -> bool: ...

    def vectors(self, texts: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Of each text its tokens' vectors, [tokens, dimensions]."""
        ...


class PaddedEncoder:
    """Any encoder of transformers, on any device. See `TokenEncoder`."""

    pads = True

    def __init__(self, model: PreTrainedModel, *, padding: int) -> None:
        self._model = model
        self._padding = padding

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        device = self._model.device
        lengths = [len(text) for text in texts]
        longest = max(lengths)
        rows = [[*text, *[self._padding] * (longest - len(text))] for text in texts]
        ones = [[1] * length + [0] * (longest - length) for length in lengths]
        mask = torch.tensor(ones, device=device)
        outputs: Any = self._model(input_ids=torch.tensor(rows, device=device), attention_mask=mask)
        states = outputs.last_hidden_state
        return [row[:length] for row, length in zip(states, lengths, strict=True)]


class Embedder:
    """See `backends.base.EmbeddingBackend`."""

    def __init__(
        self,
        encoder: TokenEncoder,
        tokenizer: TransformersTokenizer,
        pooling: Pooling,
        *,
        limits: EmbeddingLimits,
        computation: Computation,
    ) -> None:
        self._encoder = encoder
        self._pooling = pooling
        self.tokenizer = tokenizer
        self.limits = limits
        self.computation = computation
        self.prompt = pooling.prompt

    def warm_up(self) -> None:
        self.run([EmbeddingItem(token_ids=tuple(range(_WARM_UP_TOKENS)))])

    def run(self, items: Sequence[EmbeddingItem]) -> Sequence[bytes]:
        vectors = self.vectors([item.token_ids for item in items]).numpy().astype("<f4", copy=False)
        return [vector.tobytes() for vector in vectors]

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Float32 vectors of length 1, shape [texts, dimensions]."""
        return self._pooling.reduce(self._encoder.vectors(texts))

    @torch.inference_mode()
    def token_vectors(self, texts: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Of each text those of its tokens, as the model computes them."""
        return self._encoder.vectors(texts)
