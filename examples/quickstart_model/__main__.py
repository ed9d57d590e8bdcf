"""The command: trains the example model and says how well it answers."""

import argparse
import os
import sys
from pathlib import Path

from quickstart_model.record import forget, inputs_digest, is_made_from, write_record

_DESCRIPTION = """\
Trains a chat model of two million weights from nothing, in about a minute on two cores, with its
own tokenizer, on text that this script makes. It answers questions about ModelServer and
Kubernetes, makes small talk and small sums, and knows nothing else.
"""
_SAMPLES = (
    "What is ModelServer?",
    "Hello!",
    "What does a canary do?",
    "What is 2 plus 3?",
    "Which day comes after Monday?",
    "Who was Napoleon?",
)


def main() -> int:
    options = _options()
    inputs = inputs_digest({"steps": options.steps, "seed": options.seed})
    if is_made_from(options.output, inputs) and not options.force:
        print(f"{options.output} holds this model already; --force trains it again")
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    forget(options.output)
    _train(options, inputs)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quickstart_model", description=_DESCRIPTION)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where it goes")
    parser.add_argument("--steps", type=int, default=330, help="steps of training (default 330)")
    parser.add_argument(
        "--seconds", type=float, default=600, help="end earlier, after this time (default 600)"
    )
    parser.add_argument("--questions", type=int, default=300, help="asked afterwards (default 300)")
    parser.add_argument("--threads", type=int, default=0, help="default: the cores there are")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--force", action="store_true", help="train even if it is there already")
    return parser.parse_args()


def _train(options: argparse.Namespace, inputs: str) -> None:
    print("Loading torch", flush=True)
    # Threads that wait for each other by spinning take the cores from whatever else runs here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Takes seconds, which `--help` and a finished model should not.
    from quickstart_model import making  # noqa: PLC0415
    from quickstart_model.training import TrainingPlan  # noqa: PLC0415

    plan = TrainingPlan(steps=options.steps, seconds=options.seconds, seed=options.seed)
    threads = options.threads or len(os.sched_getaffinity(0))
    made = making.make(plan, questions=options.questions, threads=threads, show=print)
    making.save(made, options.output)
    for question, answer in making.conversation(made, _SAMPLES):
        print(f"  > {question}\n    {answer}")
    write_record(options.output, inputs, made.figures)
    print(f"Saved to {options.output}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
