"""Text generation with the decoder of our own: rows of many sequences in one call a step.

A sequence gets the same tokens, bit for bit, whatever is computed beside it, however its prompt is
cut, and whether its beginning was computed for it or for somebody before: `decoder.c` computes each
row by itself. So it may also give its memory back half-way, and be computed again up to there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

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
from modelserver_runtime.backends.native.blocks import (
    BLOCK_TOKENS,
    BlockPool,
    OutOfBlocks,
    keys_of,
)
from modelserver_runtime.backends.native.decoder import Decoder, Part
from modelserver_runtime.backends.native.memory import BlockTables, CachedSequence
from modelserver_runtime.backends.native.weights import PackedModel
from modelserver_runtime.backends.sampling import Sampler, top_logprobs
from modelserver_runtime.backends.step_failures import STEP_FAILURES, failed
from modelserver_runtime.backends.tokenization import TransformersTokenizer

# Rows of one call; a step of more is several calls. What a row needs beside the weights is small,
# but there is a full set of it for each.
MOST_ROWS = 1024
# Of all blocks, those that may be kept for prompts that begin like one before.
_SHARE_OF_UNUSED = 0.5


@dataclass(slots=True, kw_only=True)
class _Sequence(CachedSequence):
    """With `is_foreign`, its prompt has tokens that are not of the model's vocabulary."""

    spec: SequenceSpec
    sampler: Sampler
    is_foreign: bool
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """In part, at least."""
        return len(self.token_ids) > len(self.spec.prompt_token_ids)

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.spec.sampling.prompt_logprobs is not None and not self.is_answered


class NativeLanguageModel:
    """See `backends.base.GenerationBackend`."""

    def __init__(
        self,
        model: PackedModel,
        tokenizer: TransformersTokenizer,
        *,
        limits: GenerationLimits,
        defaults: SamplingDefaults,
        threads: int,
        blocks: int,
    ) -> None:
        self.computation = Computation(engine="native")
        self.tokenizer = tokenizer
        self.limits = replace(
            limits,
            max_model_length=min(limits.max_model_length, blocks * BLOCK_TOKENS),
            cuts_prompts=True,
        )
        self.defaults = defaults
        self.grammars = LLGuidanceCompiler(
            tokenizer.inner,
            vocabulary_size=limits.vocabulary_size,
            end_token_ids=limits.end_token_ids,
        )
        model.reserve(blocks, BLOCK_TOKENS)
        longest = limits.max_model_length
        self._decoder = Decoder(model, threads=threads, most_rows=MOST_ROWS, longest=longest)
        self._sequences: dict[int, _Sequence] = {}
        self._pool = BlockPool(blocks, most_unused=int(blocks * _SHARE_OF_UNUSED))
        self.memory = BlockTables(self._pool, self._sequences)

    def warm_up(self) -> None:
        answer_once(self)

    def logits(self, token_ids: Sequence[int]) -> Tensor:
        """Of the token after these; nothing is kept of them."""
        blocks = [self._pool.take() for _ in range(0, len(token_ids), BLOCK_TOKENS)]
        part = Part(token_ids=token_ids, start=0, blocks=np.array(blocks, dtype=np.int32))
        [logits] = self._decoder.step([part])
        for block in blocks:
            self._pool.release(block)
        return logits[-1]

    def add(self, sequence: SequenceSpec) -> None:
        prompt = sequence.prompt_token_ids
        most = len(prompt) + sequence.sampling.max_tokens
        self._sequences[sequence.sequence_id] = _Sequence(
            spec=sequence,
            sampler=Sampler(
                sequence.sampling,
                prompt,
                self.limits.end_token_ids,
                self.grammars.constraint(sequence.sampling.grammar),
            ),
            is_foreign=min(prompt, default=0) < 0
            or max(prompt, default=0) >= self.limits.vocabulary_size,
            token_ids=list(prompt),
            keys=keys_of(sequence.cache_salt, prompt),
            blocks=np.zeros(-(-most // BLOCK_TOKENS) + 1, dtype=np.int32),
            finds=sequence.sampling.prompt_logprobs is None,
        )

    def free(self, sequence_id: int) -> None:
        self.memory.release(sequence_id)
        self._sequences.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        outputs: list[TokenOutput] = []
        planned: list[tuple[_Sequence, Part]] = []
        rows = 0
        for sequence, part in self._parts(work, outputs):
            if planned and rows + len(part.token_ids) > MOST_ROWS:
                outputs.extend(self._compute(planned))
                planned, rows = [], 0
            planned.append((sequence, part))
            rows += len(part.token_ids)
        if planned:
            outputs.extend(self._compute(planned))
        return outputs

    def _parts(
        self, work: Sequence[Work], outputs: list[TokenOutput]
    ) -> Iterator[tuple[_Sequence, Part]]:
        """Cuts long pieces of work; what cannot be begun, or is known already, is an output."""
        for item in work:
            sequence = self._sequences[item.sequence_id]
            end = sequence.computed + item.tokens if sequence.is_begun else item.tokens
            try:
                self._prepare(sequence, end)
            except (OutOfBlocks, IndexError) as error:
                outputs.append(failed(item.sequence_id, error))
                continue
            if sequence.computed >= end:
                outputs.append(TokenOutput(sequence_id=item.sequence_id))
            for begin in range(sequence.computed, end, MOST_ROWS):
                yield sequence, self._part(sequence, begin, min(end, begin + MOST_ROWS))

    def _prepare(self, sequence: _Sequence, end: int) -> None:
        if sequence.is_foreign:
            raise IndexError("a token is not of the model's vocabulary")
        self.memory.begin(sequence.spec.sequence_id)
        self.memory.grow(sequence.spec.sequence_id, end)

    def _part(self, sequence: _Sequence, begin: int, end: int) -> Part:
        return Part(
            token_ids=sequence.token_ids[begin:end],
            start=begin,
            blocks=sequence.blocks,
            wants_all=sequence.wants_prompt_logprobs,
        )

    def _compute(self, planned: Sequence[tuple[_Sequence, Part]]) -> Iterator[TokenOutput]:
        computed = self._decoder.step([part for _, part in planned])
        for (sequence, part), logits in zip(planned, computed, strict=True):
            if part.wants_all:
                self._note_prompt_logprobs(sequence, part.start, logits)
            sequence.computed = part.start + len(part.token_ids)
            self.memory.publish(sequence)
            if sequence.computed < len(sequence.token_ids):
                yield TokenOutput(sequence_id=sequence.spec.sequence_id)
            else:
                yield self._sampled(sequence, logits[-1])

    def _sampled(self, sequence: _Sequence, logits: Tensor) -> TokenOutput:
        sequence_id = sequence.spec.sequence_id
        is_first = not sequence.is_answered
        try:
            token_id, logprobs = sequence.sampler.sample(logits)
        except STEP_FAILURES as error:
            return failed(sequence_id, error)
        sequence.token_ids.append(token_id)
        return TokenOutput(
            sequence_id=sequence_id,
            token_id=token_id,
            logprobs=logprobs,
            prompt_logprobs=tuple(sequence.prompt_logprobs) if is_first else (),
            cached_tokens=sequence.reused or 0 if is_first else 0,
        )

    def _note_prompt_logprobs(self, sequence: _Sequence, start: int, logits: Tensor) -> None:
        """Row i of the logits tells the probability of prompt token start + i + 1."""
        if not start:  # perhaps not for the first time
            sequence.prompt_logprobs.clear()
        count = sequence.spec.sampling.prompt_logprobs or 0
        following = sequence.spec.prompt_token_ids[start + 1 : start + 1 + logits.shape[0]]
        for row, token_id in zip(logits, following, strict=False):
            sequence.prompt_logprobs.append(top_logprobs(row.numpy(), token_id, count))
