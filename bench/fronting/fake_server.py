"""`python -m bench.fronting.fake_server CORE`: the real server, whose model answers at once.

Everything is the product's but the tensors: process, application, engine, scheduler. It keeps to
one core, the model's thread included, so that what it uses is what one core can do.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench.fronting.wire import WORD
from modelserver_runtime.app.server import serve
from modelserver_runtime.backends.base import (
    GenerationLimits,
    LoadedModel,
    ModelDescription,
    SamplingDefaults,
    SequenceSpec,
    TokenOutput,
    Work,
)
from modelserver_runtime.process.listening import listen
from modelserver_runtime.settings import Task, load_settings

_TEXT = WORD.decode()
_TOKEN = 1
_VOCABULARY = 1000
_MOST_TOKENS = 100_000


def main() -> int:
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    settings = load_settings()
    serve(settings, listen(settings.host, settings.port), lambda *_: model(), _say)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def model() -> LoadedModel:
    description = ModelDescription(
        task=Task.TEXT_GENERATION,
        architecture="Instant",
        parameters=0,
        dtype="none",
        device="none",
        threads=1,
    )
    return LoadedModel(description=description, backend=InstantBackend())


class InstantTokenizer:
    """Every word is the same token."""

    chat_template = "{{ messages }}"

    def encode(self, text: str, **_: Any) -> tuple[int, ...]:
        return (_TOKEN,) * (text.count(" ") + 1)

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        return _TEXT * len(token_ids)

    def token_text(self, _: int) -> str:
        return _TEXT

    def token_bytes(self, _: int) -> bytes:
        return _TEXT.encode()

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], _: Any) -> tuple[int, ...]:
        return self.encode(messages[-1]["content"])

    def response_parser(self, *_: Any) -> None:
        """Answers are plain text."""

    def text_stream(self, **_: Any) -> "InstantTokenizer":
        return self

    def step(self, _: int) -> str:
        return _TEXT

    def flush(self) -> str:
        return ""


class InstantBackend:
    """One token for every sequence that is asked about, without any work."""

    def __init__(self) -> None:
        self.limits = GenerationLimits(
            max_model_length=_MOST_TOKENS, vocabulary_size=_VOCABULARY, end_token_ids=frozenset()
        )
        self.defaults = SamplingDefaults()
        self.tokenizer = InstantTokenizer()
        self.grammars: Any = None  # nobody asks for one
        self._prompt_left: dict[int, int] = {}

    def warm_up(self) -> None: ...

    def add(self, sequence: SequenceSpec) -> None:
        self._prompt_left[sequence.sequence_id] = len(sequence.prompt_token_ids)

    def free(self, sequence_id: int) -> None:
        self._prompt_left.pop(sequence_id, None)

    def step(self, work: Sequence[Work]) -> Sequence[TokenOutput]:
        return [self._token(item) for item in work]

    def _token(self, item: Work) -> TokenOutput:
        left = self._prompt_left[item.sequence_id]
        self._prompt_left[item.sequence_id] = max(0, left - item.tokens)
        token_id = _TOKEN if left <= item.tokens else None
        return TokenOutput(sequence_id=item.sequence_id, token_id=token_id)


if __name__ == "__main__":
    sys.exit(main())
