"""A model without tensors: what it answers and how long that takes is known beforehand."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from modelserver_runtime.backends.base import (
    GenerationLimits,
    LoadedModel,
    ModelDescription,
    SamplingDefaults,
    SequenceSpec,
    TokenOutput,
    Work,
)
from modelserver_runtime.settings import Task

END = 0


class LetterTokenizer:
    """Token n is a letter, and a letter is token n."""

    chat_template = "{{ messages }}"

    def encode(self, text: str, **_: Any) -> tuple[int, ...]:
        return tuple(ord(letter) - 96 for letter in text)

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return "".join(self.step(token_id) for token_id in token_ids)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], _: Any) -> tuple[int, ...]:
        return self.encode(messages[-1]["content"])

    def response_parser(self, *_: Any) -> None:
        """Answers are plain text."""

    def text_stream(self, **_: Any) -> "LetterTokenizer":
        return self

    def step(self, token_id: int) -> str:
        return chr(97 + (token_id - 1) % 26)

    def flush(self) -> str:
        return ""


class CountingBackend:
    """Answers 1, 2, 3, ...; a prompt that holds 13 fails, one that holds 666 breaks the step."""

    def __init__(self, step_seconds: float = 0) -> None:
        self.step_seconds = step_seconds
        self.limits = GenerationLimits(
            max_model_length=10_000, vocabulary_size=1000, end_token_ids=frozenset({END})
        )
        self.defaults = SamplingDefaults()
        self.tokenizer = LetterTokenizer()
        self.grammars = None  # nobody may ask for one
        self.memory = None
        self.live: dict[int, int] = {}
        self.prompts: dict[int, tuple[int, ...]] = {}
        self.may_step = threading.Event()
        self.may_step.set()
        self.steps = 0

    def warm_up(self) -> None: ...

    def add(self, sequence: SequenceSpec) -> None:
        self.live[sequence.sequence_id] = -len(sequence.prompt_token_ids)
        self.prompts[sequence.sequence_id] = sequence.prompt_token_ids

    def free(self, sequence_id: int) -> None:
        self.live.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        assert self.may_step.wait(20)
        self.steps += 1
        time.sleep(self.step_seconds)
        if any(666 in self.prompts[item.sequence_id] for item in work):
            raise RuntimeError("the whole step breaks")
        return [self._step_one(item) for item in work]

    def _step_one(self, item: Work) -> TokenOutput:
        if 13 in self.prompts[item.sequence_id]:
            return TokenOutput(sequence_id=item.sequence_id, failure="unlucky")
        if self.live[item.sequence_id] < 0:
            self.live[item.sequence_id] += item.tokens
            if self.live[item.sequence_id] < 0:
                return TokenOutput(sequence_id=item.sequence_id)
        self.live[item.sequence_id] += 1
        return TokenOutput(sequence_id=item.sequence_id, token_id=self.live[item.sequence_id])


def fake_model(backend: CountingBackend) -> LoadedModel:
    description = ModelDescription(
        task=Task.TEXT_GENERATION,
        architecture="Fake",
        parameters=0,
        dtype="none",
        device="none",
        threads=1,
    )
    return LoadedModel(description=description, backend=backend)
