"""Asks the trained model, and counts the right answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from quickstart_model.corpus import Exchange

_BATCH = 64
_LONGEST_ANSWER_TOKENS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Answers that are, letter for letter, the one that was taught."""

    exact: int
    asked: int

    @property
    def percent(self) -> float:
        return 100 * self.exact / self.asked


def answers_of(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[str]
) -> list[str]:
    """Greedy answers by the chat template."""
    tokenizer.padding_side = "left"
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    model.eval()  # type: ignore[no-untyped-call]
    answers: list[str] = []
    for start in range(0, len(prompts), _BATCH):
        batch = tokenizer(
            prompts[start : start + _BATCH],
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
            return_token_type_ids=False,
        )
        with torch.inference_mode():
            output = model.generate(  # type: ignore[misc]
                **batch, max_new_tokens=_LONGEST_ANSWER_TOKENS, do_sample=False
            )
        new = output[:, batch["input_ids"].shape[1] :]
        answers += tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def score(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, exchanges: Sequence[Exchange]
) -> Mapping[str, Score]:
    """By kind of question, and for `all`."""
    # Answers of like length together: a batch goes on until its longest answer ends.
    exchanges = sorted(exchanges, key=lambda exchange: len(exchange.answer))
    answers = answers_of(model, tokenizer, [exchange.question for exchange in exchanges])
    right: dict[str, list[bool]] = defaultdict(list)
    for exchange, answer in zip(exchanges, answers, strict=True):
        for kind in (exchange.kind, "all"):
            right[kind].append(answer == exchange.answer)
    return {kind: Score(exact=sum(hits), asked=len(hits)) for kind, hits in sorted(right.items())}
