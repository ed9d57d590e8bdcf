"""Text generation with the decoder of our own: rows of many sequences in one call a step.

A sequence gets the same tokens, bit for bit, whatever is computed beside it, however its prompt is
cut, and whether its beginning was computed for it or for somebody before: `decoder.c` computes each
row by itself. So it may also give its memory back half-way, and be computed again up to there; and
tokens that are guessed can be computed with the one before them, and be dropped if they are wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
from torch import Tensor

from modelserver_runtime.backends.base import (
    Computation,
    GenerationLimits,
    GuessOutcome,
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
from modelserver_runtime.backends.native.guessing import Guess, Guesser, guesser_of
from modelserver_runtime.backends.native.memory import BlockTables, CachedSequence
from modelserver_runtime.backends.native.speculation import Speculator
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
    """With `is_foreign`, its prompt has tokens that are not of the model's vocabulary.

    After one of `end_token_ids` nothing will be said.
    """

    spec: SequenceSpec
    sampler: Sampler
    is_foreign: bool
    end_token_ids: frozenset[int]
    guesser: Guesser
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        """In part, at least."""
        return len(self.token_ids) > len(self.spec.prompt_token_ids)

    @property
    def wants_prompt_logprobs(self) -> bool:
        return self.spec.sampling.prompt_logprobs is not None and not self.is_answered

    @property
    def most_tokens(self) -> int:
        return len(self.spec.prompt_token_ids) + self.spec.sampling.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """The last rows of the part are those of the guess, if there is one."""

    sequence: _Sequence
    part: Part
    guess: Guess | None = None

    @property
    def rows(self) -> int:
        return len(self.part.token_ids)

    @property
    def is_answering(self) -> bool:
        """It is the newest token of an answer, so that the next ones may be guessed."""
        is_newest = self.part.start + 1 == len(self.sequence.token_ids)
        return is_newest and self.sequence.is_answered


class NativeLanguageModel:
    """See `backends.base.GenerationBackend`."""

    def __init__(  # noqa: PLR0913  what it is made of
        self,
        model: PackedModel,
        tokenizer: TransformersTokenizer,
        *,
        limits: GenerationLimits,
        defaults: SamplingDefaults,
        threads: int,
        blocks: int,
        most_guessed: int = 0,
    ) -> None:
        """`most_guessed` are tokens of one sequence in one step that are computed on a guess."""
        self.computation = Computation(
            engine="native", dtype=model.dtype, memory_bytes=model.memory_bytes
        )
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
        self.speculator = Speculator(most_guessed)

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
        sampling = sequence.sampling
        most = len(prompt) + sampling.max_tokens
        token_ids = list(prompt)
        ends = frozenset[int]() if sampling.ignore_end else self.limits.end_token_ids
        self._sequences[sequence.sequence_id] = _Sequence(
            spec=sequence,
            sampler=Sampler(
                sampling,
                prompt,
                self.limits.end_token_ids,
                self.grammars.constraint(sampling.grammar),
            ),
            is_foreign=min(prompt, default=0) < 0
            or max(prompt, default=0) >= self.limits.vocabulary_size,
            end_token_ids=ends | sampling.stop_token_ids,
            guesser=guesser_of(token_ids, sequence.prediction),
            token_ids=token_ids,
            keys=keys_of(sequence.cache_salt, prompt),
            blocks=np.zeros(-(-most // BLOCK_TOKENS) + 1, dtype=np.int32),
            finds=sampling.prompt_logprobs is None,
        )

    def free(self, sequence_id: int) -> None:
        self.memory.release(sequence_id)
        self._sequences.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        outputs: list[TokenOutput] = []
        planned = self._with_guesses(list(self._parts(work, outputs)))
        for call in _calls(planned):
            outputs.extend(self._compute(call))
        return outputs

    def _parts(self, work: Sequence[Work], outputs: list[TokenOutput]) -> Iterator[_Planned]:
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
                part = self._part(sequence, begin, min(end, begin + MOST_ROWS))
                yield _Planned(sequence=sequence, part=part)

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

    def _with_guesses(self, planned: Sequence[_Planned]) -> Sequence[_Planned]:
        rows = sum(each.rows for each in planned)
        if not self.speculator.may_guess(rows):
            return planned
        answering = [each for each in planned if each.is_answering]
        most = [self._room_for_guesses(each.sequence) for each in answering]
        guessers = [each.sequence.guesser for each in answering]
        guesses = self.speculator.guesses(guessers, most, rows)
        others = [each for each in planned if not each.is_answering]
        return [*map(_with_guess, answering, guesses), *others]

    def _room_for_guesses(self, sequence: _Sequence) -> int:
        """Up to the end of the answer; a block is taken for them if nobody will lack it."""
        length = len(sequence.token_ids)
        end = min(sequence.most_tokens, self.limits.max_model_length)
        most = min(self.speculator.most, end - length - 1)
        if self._pool.available > len(self._sequences):
            self.memory.grow(sequence.spec.sequence_id, length + max(0, most))
        return min(most, sequence.held * BLOCK_TOKENS - length)

    def _compute(self, planned: Sequence[_Planned]) -> Iterator[TokenOutput]:
        began = perf_counter()
        computed = self._decoder.step([each.part for each in planned])
        self.speculator.observe(sum(each.rows for each in planned), perf_counter() - began)
        for each, logits in zip(planned, computed, strict=True):
            sequence, part = each.sequence, each.part
            if sequence.wants_prompt_logprobs:
                self._note_prompt_logprobs(sequence, part.start, logits)
            if each.guess is not None:
                yield from self._said(sequence, logits, each.guess)
            elif part.start + each.rows == len(sequence.token_ids):
                yield from self._said(sequence, logits[-1:], _NO_GUESS)
            else:
                sequence.computed = part.start + each.rows
                yield TokenOutput(sequence_id=sequence.spec.sequence_id)
            self.memory.publish(sequence)

    def _said(self, sequence: _Sequence, rows: Tensor, guess: Guess) -> Sequence[TokenOutput]:
        """Tokens of the answer, one of each row, up to the first that was not guessed.

        What was computed of the rows after it is nobody's, and will be written over.
        """
        outputs = []
        for row, guessed in zip(rows, [*guess.token_ids, None], strict=True):
            output = self._sampled(sequence, row)
            outputs.append(output)
            if output.token_id != guessed or output.token_id in sequence.end_token_ids:
                break
        sequence.computed = len(sequence.token_ids) - 1
        sequence.guesser.note([each.token_id for each in outputs if each.token_id is not None])
        _judge(outputs, guess)
        return outputs

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


_NO_GUESS = Guess(token_ids=[], chance=0.0, is_prediction=False)


def _calls(planned: Sequence[_Planned]) -> Iterator[list[_Planned]]:
    """What the decoder takes at once."""
    call: list[_Planned] = []
    rows = 0
    for each in planned:
        if call and rows + each.rows > MOST_ROWS:
            yield call
            call, rows = [], 0
        call.append(each)
        rows += each.rows
    if call:
        yield call


def _with_guess(planned: _Planned, guess: Guess) -> _Planned:
    if not guess.token_ids:
        return planned
    token_ids = [*planned.part.token_ids, *guess.token_ids]
    part = replace(planned.part, token_ids=token_ids, wants_all=True)
    return replace(planned, part=part, guess=guess)


def _judge(outputs: Sequence[TokenOutput], guess: Guess) -> None:
    """Says of each token that is there because of a guess what became of it."""
    if not guess.token_ids:
        return
    right = 0
    for output, guessed in zip(outputs, guess.token_ids, strict=False):
        is_right = output.token_id == guessed
        right += is_right
        output.guess = GuessOutcome(is_right=is_right, is_prediction=guess.is_prediction)
    wrong = len(guess.token_ids) - right
    if wrong and outputs[-1].guess is not None:
        outputs[-1].guess = replace(outputs[-1].guess, wrong=wrong)
