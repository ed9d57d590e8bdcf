"""Before speed: is what an engine says greedily what the model says?

The judge reads each answer back in float32 (`bench.serving.judge`). A token is right if its logit
is the highest up to what bf16 can tell apart; an answer all of whose tokens are the highest is the
one that `generate()` gives in float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.generating.vocabulary import Vocabulary
from bench.serving.answers import Answer
from bench.serving.engines import EngineFailed, log_of, talk, worker
from bench.serving.figures import rounded
from bench.serving.judging import Verdict

# Of the tokens of an engine. The rest is for near ties, which bf16 decides either way. Each is
# judged after those that were really said, so that one of them makes no other wrong.
LEAST_RIGHT_PERCENT = 99.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Of all judged answers of an engine."""

    answers: int
    equal: int
    tokens: int
    right: int

    @property
    def right_percent(self) -> float:
        return 100 * self.right / self.tokens

    @property
    def equal_percent(self) -> float:
        return 100 * self.equal / self.answers


async def judged(
    folder: Path,
    environment: Mapping[str, str],
    answers: Mapping[str, Sequence[Answer]],
    vocabulary: Vocabulary,
) -> dict[str, Judgement]:
    """Engine → judgement; each different answer is read back once."""
    known: dict[tuple[str, tuple[int, ...]], Verdict] = {}
    found = {}
    log = log_of("judge")
    async with worker("bench.serving.judge", folder, environment, log=log) as it:
        for engine, given in answers.items():
            for answer in given:
                key = (answer.message, answer.token_ids)
                if key not in known:
                    question = {
                        "prompt": vocabulary.prompt(answer.message),
                        "output": answer.token_ids,
                    }
                    reply = await talk(it.process, question)
                    known[key] = Verdict(tokens=len(answer.token_ids), **reply)
            found[engine] = _together([known[it.message, it.token_ids] for it in given])
    return found


def _together(verdicts: Sequence[Verdict]) -> Judgement:
    return Judgement(
        answers=len(verdicts),
        equal=sum(one.best == one.tokens for one in verdicts),
        tokens=sum(one.tokens for one in verdicts),
        right=sum(one.near for one in verdicts),
    )


def demand_right(judgements: Mapping[str, Judgement]) -> None:
    """Raises EngineFailed: the speed of an engine that says something else is worth nothing."""
    for engine, judgement in judgements.items():
        if judgement.right_percent < LEAST_RIGHT_PERCENT:
            raise EngineFailed(
                f"{engine} is not measured: {judgement.right_percent:.1f} % of its tokens are "
                f"what the model says, and at least {LEAST_RIGHT_PERCENT} % must be; see "
                f"{log_of(engine)}, or leave it out with --engines"
            )


def gate_figures(judgements: Mapping[str, Judgement]) -> dict[str, float]:
    figures = {
        f"tokens_right_percent_{engine}": rounded(it.right_percent)
        for engine, it in judgements.items()
    }
    return figures | {
        f"answers_equal_to_float32_percent_{engine}": rounded(it.equal_percent)
        for engine, it in judgements.items()
    }
