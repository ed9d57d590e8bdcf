"""`python -m bench.serving.generate_worker FOLDER`: plain `model.generate()`, one batch at a time.

Reads one JSON object per line, {"prompts": [[token, ...], ...], "output_tokens": n}, and answers
{"outputs": [[token, ...], ...], "first_token_seconds": s, "total_seconds": s}. There is no HTTP and
no queue: all prompts of a batch are there from the start, have the same length, and leave together,
which is the best case for a static batch.
"""

import argparse
import json
import sys
from time import perf_counter
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, StoppingCriteria


class FirstTokenClock(StoppingCriteria):
    """Stops nothing: `generate` calls it after every token."""

    def __init__(self) -> None:
        self.started = perf_counter()
        self.first_token_seconds = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        del scores
        if not self.first_token_seconds:
            self.first_token_seconds = perf_counter() - self.started
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.generate_worker")
    parser.add_argument("folder", help="the model's directory")
    folder = parser.parse_args().folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    print("{}", flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(generate(model, **json.loads(line))), flush=True)
    return 0


def generate(
    model: PreTrainedModel, *, prompts: list[list[int]], output_tokens: int
) -> dict[str, Any]:
    input_ids = torch.tensor(prompts)
    clock = FirstTokenClock()
    generated = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=output_tokens,
        do_sample=False,
        stopping_criteria=[clock],
    )
    return {
        "outputs": generated[:, input_ids.shape[1] :].tolist(),
        "first_token_seconds": clock.first_token_seconds,
        "total_seconds": perf_counter() - clock.started,
    }


if __name__ == "__main__":
    sys.exit(main())
