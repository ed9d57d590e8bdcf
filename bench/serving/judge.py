"""`python -m bench.serving.judge FOLDER`: are greedy answers what the model says?

Two correct engines that compute in bf16 need not give the same text: they add in another order, a
near tie is decided the other way, and everything after it differs. So each answer is read back by
the model in float32, all tokens before the one that is judged given. A token is right if its logit
is as high as the highest one, up to what bf16 can tell apart.

Reads one JSON object per line, {"prompt": [...], "output": [...]}, and answers
{"best": n, "near": n}: tokens that are the most likely ones, and those within the tolerance.
"""

import argparse
import json
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

# bf16 keeps 8 bits: a logit near the highest one is rounded by up to 1/256 of it, and the layers
# before it add as much again several times. A wrong token is farther away: between the highest of
# 32,000 normally distributed logits and the median one lies the whole height.
TOLERANCE = 8 / 256


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.serving.judge")
    parser.add_argument("folder", help="the model's directory")
    folder = parser.parse_args().folder
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    print("{}", flush=True)  # ready
    for line in sys.stdin:
        print(json.dumps(judge(model, **json.loads(line))), flush=True)
    return 0


@torch.inference_mode()
def judge(model: PreTrainedModel, *, prompt: list[int], output: list[int]) -> dict[str, int]:
    input_ids = torch.tensor([prompt + output[:-1]])
    logits = model(input_ids=input_ids, logits_to_keep=len(output)).logits[0]
    highest = logits.max(dim=-1).values
    chosen = logits.gather(1, torch.tensor(output)[:, None])[:, 0]
    near = highest - chosen <= TOLERANCE * highest.abs()
    return {"best": int((chosen == highest).sum()), "near": int(near.sum())}


if __name__ == "__main__":
    sys.exit(main())
