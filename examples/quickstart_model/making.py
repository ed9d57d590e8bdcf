"""From nothing to a scored model: text, tokenizer, training, questions."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from quickstart_model.asking import Score, answers_of, score
from quickstart_model.corpus import Corpus, make_corpus
from quickstart_model.model_card import card
from quickstart_model.tokenizing import train_tokenizer
from quickstart_model.training import TrainingPlan, TrainingState, new_model, train

_LINE_SECONDS = 2.0
_CORPUS_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    state: TrainingState
    scores: Mapping[str, Score]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def figures(self) -> dict[str, Any]:
        total = self.scores["all"]
        return {
            "parameters": self.parameters,
            "steps": self.state.step,
            "seconds": round(self.state.seconds, 1),
            "loss": round(self.state.loss, 4),
            "held_out_exact": total.exact,
            "held_out_asked": total.asked,
        }


def make(plan: TrainingPlan, *, questions: int, threads: int, show: Callable[[str], None]) -> Made:
    """`questions` is how many of the held-out wordings are asked at the end."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(threads)
    corpus = make_corpus(_CORPUS_SEED)
    tokenizer = train_tokenizer(_texts(corpus))
    model = new_model(tokenizer)
    show(
        f"{len(corpus.training)} questions, {len(corpus.held_out)} other wordings held out; "
        f"{len(tokenizer)} tokens; {sum(p.numel() for p in model.parameters()):,} weights; "
        f"{plan.steps} steps on {threads} threads"
    )
    state = train(model, tokenizer, corpus.training, plan, _Lines(plan, show))
    # As it will be served: half the bytes, and what processors multiply fastest.
    model.to(torch.bfloat16)  # type: ignore[arg-type]  # typed for devices only
    show("Asking in the wordings that were held out")
    asked = random.Random(plan.seed).sample(corpus.held_out, min(questions, len(corpus.held_out)))
    scores = score(model, tokenizer, asked)
    for kind, result in scores.items():
        show(f"  {kind:<10} {result.exact:4} of {result.asked:4} right ({result.percent:.0f} %)")
    return Made(model=model, tokenizer=tokenizer, state=state, scores=scores)


def save(made: Made, directory: Path) -> None:
    """In the form in which model hubs keep models."""
    made.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=made.tokenizer.eos_token_id,
        pad_token_id=made.tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=128,
    )
    disable_progress_bar()  # type: ignore[no-untyped-call]
    made.model.save_pretrained(directory)
    made.tokenizer.padding_side = "right"
    made.tokenizer.save_pretrained(directory)
    text = card(
        made.scores,
        parameters=made.parameters,
        steps=made.state.step,
        seconds=made.state.seconds,
        loss=made.state.loss,
    )
    (directory / "README.md").write_text(text, encoding="utf-8")
    for path in directory.iterdir():
        # Weights are saved for their owner alone, and the server may be another user.
        if path.is_file():
            path.chmod(0o644)


def conversation(made: Made, questions: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(questions, answers_of(made.model, made.tokenizer, questions), strict=True)


def _texts(corpus: Corpus) -> Iterator[str]:
    for exchange in corpus.training:
        yield exchange.question
        yield exchange.question.lower()
        yield exchange.answer


class _Lines:
    """A line every two seconds: how far, how good, how long still."""

    def __init__(self, plan: TrainingPlan, show: Callable[[str], None]) -> None:
        self._plan = plan
        self._show = show
        self._last = time.perf_counter()

    def __call__(self, state: TrainingState) -> None:
        now = time.perf_counter()
        if now - self._last < _LINE_SECONDS and state.step != self._plan.steps:
            return
        self._last = now
        left = state.seconds / state.share_done * (1 - state.share_done) if state.share_done else 0
        self._show(
            f"  step {state.step:4} of {self._plan.steps}  {100 * state.share_done:3.0f} %  "
            f"loss {state.loss:6.3f}  {left:4.0f} s left"
        )
