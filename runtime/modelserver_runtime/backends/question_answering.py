"""Answers a question with words of a text; transformers 5 has no pipeline for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.backends.tokenization import TransformersTokenizer
from modelserver_runtime.errors import ContextLengthExceeded, UnsupportedModel

# Long texts are read in windows that overlap by this share, so that no answer is cut at an edge.
_OVERLAP = 0.25
_LONGEST_ANSWER_TOKENS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    score: float
    start: int
    end: int


class QuestionAnswerer:
    """See `backends.base.BatchBackend`; inputs are `{"question": ..., "context": ...}`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TransformersTokenizer,
        *,
        max_model_length: int,
    ) -> None:
        if not tokenizer.inner.is_fast:
            raise UnsupportedModel(
                "The model's tokenizer does not tell where in the text a token comes from",
                hint="Use a model with a tokenizer.json.",
            )
        self._model = model
        self._tokenizer = tokenizer.inner
        self._max_model_length = max_model_length

    def warm_up(self) -> None:
        self.run([TaskItem(inputs={"question": "warm up", "context": "warm up"})])

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        return [self._answer(item) for item in items]

    @torch.inference_mode()
    def _answer(self, item: TaskItem) -> Any:
        question, context = item.inputs["question"], item.inputs["context"]
        count = item.parameters.get("top_k", 1)
        longest = item.parameters.get("max_answer_length", _LONGEST_ANSWER_TOKENS)
        spans = self._spans(question, context, longest)
        best = sorted(spans, key=lambda span: -span.score)[:count]
        answers = [
            {
                "answer": context[span.start : span.end],
                "score": span.score,
                "start": span.start,
                "end": span.end,
            }
            for span in best
        ]
        return answers[0] if count == 1 else answers

    def _spans(self, question: str, context: str, longest: int) -> list[_Span]:
        windows = self._windows(question, context)
        found: dict[tuple[int, int], _Span] = {}
        for index in range(len(windows["input_ids"])):
            for span in self._spans_of_window(windows, index, longest):
                known = found.get((span.start, span.end))
                if known is None or span.score > known.score:
                    found[span.start, span.end] = span
        return list(found.values())

    def _windows(self, question: str, context: str) -> Any:
        room = self._max_model_length - len(self._tokenizer(question, "")["input_ids"])
        if room < 2:  # noqa: PLR2004  a window of one token could not advance
            raise ContextLengthExceeded(
                f"The question leaves {max(room, 0)} of {self._max_model_length} tokens for the "
                "text; shorten it",
                param="inputs.question",
            )
        return self._tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self._max_model_length,
            stride=int(room * _OVERLAP),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def _spans_of_window(self, windows: Any, index: int, longest: int) -> list[_Span]:
        """The likeliest spans that lie in the text; a score is the product of two probabilities."""
        names = [name for name in self._tokenizer.model_input_names if name in windows]
        device = self._model.device
        inputs = {name: torch.tensor([windows[name][index]], device=device) for name in names}
        outputs = self._model(**inputs)
        in_text = [part == 1 for part in windows.sequence_ids(index)]
        mask = torch.tensor(in_text, device=device)
        starts = _probabilities(outputs.start_logits[0], mask)
        ends = _probabilities(outputs.end_logits[0], mask)
        pairs = torch.triu(starts[:, None] * ends[None, :]).tril(longest - 1)
        values, places = pairs.flatten().topk(min(10, pairs.numel()))
        offsets = windows["offset_mapping"][index]
        return [
            _Span(
                score=score,
                start=offsets[place // len(offsets)][0],
                end=offsets[place % len(offsets)][1],
            )
            for score, place in zip(values.tolist(), places.tolist(), strict=True)
            if score > 0
        ]


def _probabilities(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.softmax(logits.float().masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()
