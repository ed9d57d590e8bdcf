"""Asks the judge about the answers of the first round, each different answer once."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.serving import words
from bench.serving.answers import Answer, succeeded
from bench.serving.engines import log_of, talk, worker
from bench.serving.measurement import Measurement
from bench.serving.model_folder import model_folder

# Of each engine and concurrency; reading one back takes about half a second.
_ANSWERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of the judged tokens of one engine: how many are the most likely one, or near it."""

    tokens: int
    best: int
    near: int


async def judge(
    measurements: Sequence[Measurement], environment: Mapping[str, str]
) -> dict[str, Verdict]:
    """Engine → verdict."""
    known: dict[tuple[str, tuple[int, ...]], Verdict] = {}
    found: dict[str, list[Verdict]] = defaultdict(list)
    log = log_of("judge")
    async with worker("bench.serving.judge", model_folder(), environment, log=log) as it:
        for engine, answer in _chosen(measurements):
            key = (answer.message, answer.token_ids)
            if key not in known:
                reply = await talk(it.process, _question(answer))
                known[key] = Verdict(tokens=len(answer.token_ids), **reply)
            found[engine].append(known[key])
    return {engine: _total(verdicts) for engine, verdicts in found.items()}


def _chosen(measurements: Sequence[Measurement]) -> Iterator[tuple[str, Answer]]:
    for one in measurements:
        if one.round == 1:
            yield from ((one.engine, answer) for answer in succeeded(one.answers)[:_ANSWERS])


def _question(answer: Answer) -> dict[str, Sequence[int]]:
    return {"prompt": words.chat_token_ids(answer.message), "output": answer.token_ids}


def _total(verdicts: Sequence[Verdict]) -> Verdict:
    return Verdict(
        tokens=sum(one.tokens for one in verdicts),
        best=sum(one.best for one in verdicts),
        near=sum(one.near for one in verdicts),
    )
