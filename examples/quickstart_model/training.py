"""Trains the model: a number of steps, or until the time is up."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from quickstart_model.corpus import Exchange
from quickstart_model.samples import Sample, SampleMaker
from quickstart_model.tokenizing import CONTEXT_TOKENS

_WARM_UP = 0.05
_IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """Ends after `steps`; if the machine is too slow for that, after `seconds`."""

    steps: int
    seconds: float
    batch_size: int = 48
    hidden_rate: float = 4e-3
    other_rate: float = 4e-3
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    step: int
    share_done: float
    loss: float
    seconds: float


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    exchanges: Sequence[Exchange],
    plan: TrainingPlan,
    show: Callable[[TrainingState], None],
) -> TrainingState:
    maker = SampleMaker(tokenizer, random.Random(plan.seed))
    optimizers = _optimizers(model, plan)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    batches = maker.batches(exchanges, plan.batch_size)
    model.train()
    started = time.perf_counter()
    average = 0.0
    for step in range(plan.steps):
        seconds = time.perf_counter() - started
        share = max(step / plan.steps, seconds / plan.seconds)
        if share >= 1:
            break
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _rate(share)
        loss = _step(model, next(batches), optimizers)
        average = loss if not step else 0.95 * average + 0.05 * loss
        state = TrainingState(step=step + 1, share_done=share, loss=average, seconds=seconds)
        show(state)
    return state


def _rate(share: float) -> float:
    """Up within the warm-up, then down to nothing."""
    return share / _WARM_UP if share < _WARM_UP else (1 - share) / (1 - _WARM_UP)


def _optimizers(model: LlamaForCausalLM, plan: TrainingPlan) -> list[torch.optim.Optimizer]:
    """Muon learns matrices in fewer steps than AdamW; embeddings and norms are not for it."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            hidden, lr=plan.hidden_rate, adjust_lr_fn="match_rms_adamw", weight_decay=0.01
        ),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _step(
    model: LlamaForCausalLM, batch: Sequence[Sample], optimizers: Sequence[torch.optim.Optimizer]
) -> float:
    tokens, targets = _tensors(batch)
    hidden = model.model(input_ids=tokens).last_hidden_state
    is_learnt = targets != _IGNORED
    # Only answers need logits, and they are the smaller part.
    logits = model.lm_head(hidden[is_learnt])
    loss = cross_entropy(logits, targets[is_learnt])
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _tensors(batch: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Padding is on the right, where causal attention never looks back at it."""
    length = max(len(sample.tokens) for sample in batch) - 1
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    targets = torch.full((len(batch), length), _IGNORED)
    for row, sample in enumerate(batch):
        size = len(sample.tokens) - 1
        ids = torch.tensor(sample.tokens)
        tokens[row, :size] = ids[:-1]
        targets[row, :size] = ids[1:].where(torch.tensor(sample.is_answer[1:]), _IGNORED)
    return tokens, targets
