"""Text generation with any causal language model, one key-value cache per sequence.

A sequence gets the same tokens whatever else is computed beside it: prompts are computed one by
one, and decoding steps together only where that changes no bit (`backends.ragged`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from modelserver_runtime.backends.base import (
    Computation,
    GenerationLimits,
    SamplingDefaults,
    SequenceSpec,
    TokenLogprobs,
    TokenOutput,
    Work,
)
from modelserver_runtime.backends.first_answer import answer_once
from modelserver_runtime.backends.grammar import LLGuidanceCompiler
from modelserver_runtime.backends.ragged import ragged_step, undo_step, use_ragged_steps
from modelserver_runtime.backends.sampling import Sampler, top_logprobs
from modelserver_runtime.backends.step_failures import STEP_FAILURES, failed
from modelserver_runtime.backends.tokenization import TransformersTokenizer


@dataclass(slots=True, kw_only=True)
class _Sequence:
    """`pending` are tokens that the cache does not hold yet."""

    spec: SequenceSpec
    cache: DynamicCache
    sampler: Sampler
    pending: list[int]
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    is_prompt_done: bool = False

    @property
    def computed(self) -> int:
        return int(self.cache.get_seq_length())


class CausalLanguageModel:
    """See `backends.base.GenerationBackend`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TransformersTokenizer,
        *,
        limits: GenerationLimits,
        defaults: SamplingDefaults,
        reason: str = "",
    ) -> None:
        """`reason` says why nothing faster computes this model."""
        self.computation = Computation(engine="transformers", reason=reason)
        self.memory = None
        self._model = model
        self.tokenizer = tokenizer
        self.limits = limits
        self.defaults = defaults
        self.grammars = LLGuidanceCompiler(
            tokenizer.inner,
            vocabulary_size=limits.vocabulary_size,
            end_token_ids=limits.end_token_ids,
        )
        self._sequences: dict[int, _Sequence] = {}
        self._is_ragged = False

    @property
    def decodes_together(self) -> bool:
        """Known after warm-up."""
        return self._is_ragged

    def warm_up(self) -> None:
        self._is_ragged = use_ragged_steps(self._model)
        answer_once(self)

    def add(self, sequence: SequenceSpec) -> None:
        self._sequences[sequence.sequence_id] = _Sequence(
            spec=sequence,
            cache=DynamicCache(config=self._model.config),
            sampler=Sampler(
                sequence.sampling,
                sequence.prompt_token_ids,
                self.limits.end_token_ids,
                self.grammars.constraint(sequence.sampling.grammar),
            ),
            pending=list(sequence.prompt_token_ids),
        )

    def free(self, sequence_id: int) -> None:
        self._sequences.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        return list(self._outputs(work))

    def _outputs(self, work: Sequence[Work]) -> Iterator[TokenOutput]:
        together = []
        for item in work:
            sequence = self._sequences[item.sequence_id]
            if self._is_ragged and sequence.is_prompt_done:
                together.append(sequence)
            else:
                yield self._guarded(sequence, item.tokens)
        if together:
            yield from self._decode(together)

    def _guarded(self, sequence: _Sequence, tokens: int) -> TokenOutput:
        try:
            return self._step_one(sequence, tokens)
        except STEP_FAILURES as error:
            return failed(sequence.spec.sequence_id, error)

    @torch.inference_mode()
    def _decode(self, sequences: Sequence[_Sequence]) -> Iterator[TokenOutput]:
        """One token of each; if that breaks off, of each alone, so that one fails alone."""
        lengths = [sequence.computed for sequence in sequences]
        try:
            logits = ragged_step(
                self._model,
                [sequence.cache for sequence in sequences],
                [sequence.pending[0] for sequence in sequences],
            )
        except STEP_FAILURES as error:
            yield from self._decode_apart(sequences, lengths, error)
            return
        for sequence, row in zip(sequences, logits, strict=True):
            yield self._sampled(sequence, row)

    def _decode_apart(
        self, sequences: Sequence[_Sequence], lengths: Sequence[int], error: Exception
    ) -> Iterator[TokenOutput]:
        for sequence, length in zip(sequences, lengths, strict=True):
            if len(sequences) > 1 and undo_step(sequence.cache, length):
                yield from self._decode([sequence])
            else:
                yield failed(sequence.spec.sequence_id, error)

    def _sampled(self, sequence: _Sequence, row: Tensor) -> TokenOutput:
        sequence_id = sequence.spec.sequence_id
        try:
            token_id, logprobs = sequence.sampler.sample(row.float())
        except STEP_FAILURES as error:
            return failed(sequence_id, error)
        sequence.pending = [token_id]
        return TokenOutput(sequence_id=sequence_id, token_id=token_id, logprobs=logprobs)

    @torch.inference_mode()
    def _step_one(self, sequence: _Sequence, tokens: int) -> TokenOutput:
        chunk, sequence.pending = sequence.pending[:tokens], sequence.pending[tokens:]
        start = sequence.computed
        logits = self._forward(sequence, chunk)
        if not sequence.is_prompt_done:
            self._note_prompt_logprobs(sequence, start, logits)
        if sequence.pending:
            return TokenOutput(sequence_id=sequence.spec.sequence_id)
        token_id, logprobs = sequence.sampler.sample(logits[-1].float())
        sequence.pending = [token_id]
        output = TokenOutput(
            sequence_id=sequence.spec.sequence_id,
            token_id=token_id,
            logprobs=logprobs,
            prompt_logprobs=() if sequence.is_prompt_done else tuple(sequence.prompt_logprobs),
        )
        sequence.is_prompt_done = True
        return output

    def _forward(self, sequence: _Sequence, chunk: Sequence[int]) -> Tensor:
        """Logits of shape [positions, vocabulary]: of all positions only where they are wanted."""
        wants_all = (
            sequence.spec.sampling.prompt_logprobs is not None and not sequence.is_prompt_done
        )
        outputs: Any = self._model(
            input_ids=torch.tensor([chunk], device=self._model.device),
            past_key_values=sequence.cache,
            use_cache=True,
            logits_to_keep=0 if wants_all else 1,
        )
        logits: Tensor = outputs.logits[0]
        return logits

    def _note_prompt_logprobs(self, sequence: _Sequence, start: int, logits: Tensor) -> None:
        """Position i of the logits tells the probability of prompt token start + i + 1."""
        count = sequence.spec.sampling.prompt_logprobs
        if count is None:
            return
        following = sequence.spec.prompt_token_ids[start + 1 : start + 1 + logits.shape[0]]
        for row, token_id in zip(logits, following, strict=False):
            logprobs = top_logprobs(row.float().numpy(force=True), token_id, count)
            sequence.prompt_logprobs.append(logprobs)
