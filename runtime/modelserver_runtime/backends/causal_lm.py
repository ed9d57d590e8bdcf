"""Text generation with any causal language model, one key-value cache per sequence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from modelserver_runtime.backends.base import (
    GenerationLimits,
    SamplingDefaults,
    SamplingParameters,
    SequenceSpec,
    TokenLogprobs,
    TokenOutput,
    Work,
)
from modelserver_runtime.backends.grammar import LLGuidanceCompiler
from modelserver_runtime.backends.sampling import Sampler, top_logprobs
from modelserver_runtime.backends.tokenization import TransformersTokenizer

_WARM_UP_TOKENS = 8


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
    """See `backends.base.GenerationBackend`. Computes each sequence by itself."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TransformersTokenizer,
        *,
        limits: GenerationLimits,
        defaults: SamplingDefaults,
    ) -> None:
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

    def warm_up(self) -> None:
        """Two steps of a greedy answer: a prompt, then a token after it."""
        prompt = tuple(index % self.limits.vocabulary_size for index in range(_WARM_UP_TOKENS))
        sampling = SamplingParameters(max_tokens=2, temperature=0)
        self.add(SequenceSpec(sequence_id=-1, prompt_token_ids=prompt, sampling=sampling))
        try:
            for tokens in (len(prompt), 1):
                self._step_one(self._sequences[-1], tokens)
        finally:
            self.free(-1)

    def add(self, sequence: SequenceSpec) -> None:
        self._sequences[sequence.sequence_id] = _Sequence(
            spec=sequence,
            cache=DynamicCache(config=self._model.config),
            sampler=Sampler(
                sequence.sampling,
                sequence.prompt_token_ids,
                self.limits.end_token_ids,
                self._model.device,
                self.grammars.constraint(sequence.sampling.grammar),
            ),
            pending=list(sequence.prompt_token_ids),
        )

    def free(self, sequence_id: int) -> None:
        self._sequences.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        return list(self._outputs(work))

    def _outputs(self, work: Sequence[Work]) -> Iterator[TokenOutput]:
        for item in work:
            try:
                yield self._step_one(self._sequences[item.sequence_id], item.tokens)
            except (RuntimeError, IndexError, ValueError) as error:
                # What torch and transformers raise when computing fails; other sequences go on.
                yield TokenOutput(sequence_id=item.sequence_id, failure=_sentence(error))

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
            logprobs = torch.log_softmax(row.float(), dim=-1)
            sequence.prompt_logprobs.append(top_logprobs(logprobs, token_id, count))


def _sentence(error: Exception) -> str:
    return f"The model could not compute this request: {str(error).partition('\n')[0]}"
