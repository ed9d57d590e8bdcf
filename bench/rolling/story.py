"""A rollout that was really played, as numbers over time: what pictures of it are drawn from.

Times are seconds since the spec was changed. Only plays are looked at that have ended.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.rollout.frozen import analysis_of
from modelserver_operator.rollout.gates import gates_of
from modelserver_operator.rollout.sequential import GRID, SequentialTest, evidence_needed

BUCKET_SECONDS = 2
_GOOD = 200
_DIGITS = 3

type Story = dict[str, Any]


def story_of(play: Any, gate: str) -> Story:
    """`gate` is the one whose evidence is told, as `status.rollout.gates` calls it."""
    states = [one for one in play.states() if one.at >= play.changed_at]
    last = max(one.at for one in states) - play.changed_at
    return {
        "bucket_seconds": BUCKET_SECONDS,
        "phases": changes((seconds(play, one.at), one.run["phase"]) for one in states),
        "weights": changes((seconds(play, one.at), _weight(one)) for one in states),
        "traffic": list(traffic(play, last)),
        "gate": gate,
        "evidence": changes(evidence(play, states, gate)),
        "evidence_needed": round(_needed(states, gate), _DIGITS),
    }


def seconds(play: Any, at: float) -> float:
    return round(at - play.changed_at, 2)


def changes(pairs: Iterator[tuple[float, Any]]) -> list[list[Any]]:
    """Each value with the time from which on it was told."""
    groups = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [[next(group)[0], value] for value, group in groups]


def _weight(seen: Any) -> int:
    return int(seen.run.get("weights", {}).get("intended", 0))


def traffic(play: Any, last: float) -> Iterator[dict[str, Any]]:
    """Requests by when they were sent: `divided` came through the router."""
    buckets: dict[int, list[Any]] = {}
    for answer in play.traffic.answers:
        buckets.setdefault(int((answer.began - play.changed_at) // BUCKET_SECONDS), []).append(
            answer
        )
    for bucket in range(int(last // BUCKET_SECONDS) + 1):
        answers = buckets.get(bucket, [])
        divided = [one for one in answers if one.router_says]
        yield {
            "at": bucket * BUCKET_SECONDS,
            "requests": len(answers),
            "failed": sum(one.status != _GOOD for one in answers),
            "of_canary": sum(one.revision == play.new for one in answers),
            "divided": len(divided),
            "divided_to_canary": sum(one.router_says == play.new for one in divided),
        }


def evidence(play: Any, states: Sequence[Any], gate: str) -> Iterator[tuple[float, float]]:
    """The decimal logarithm of E, each time that it was told."""
    for one in states:
        for found in one.run.get("gates", []):
            ratios = tuple(found.get("logRatios", ()))
            if found["name"] == gate and len(ratios) == len(GRID):
                log = SequentialTest(log_ratios=ratios).log_evidence / math.log(10)
                yield seconds(play, one.at), round(log, _DIGITS)


def _needed(states: Sequence[Any], gate: str) -> float:
    """The same of what rejects, by the rules that the rollout went by."""
    frozen: Mapping[str, Any] = next(one.run["spec"] for one in states if one.run.get("spec"))
    rules = RolloutSpec.model_validate_json(json.dumps(frozen))
    gates = gates_of(analysis_of(rules), rules.shadow)
    alpha = next(one.alpha for one in gates if one.name == gate)
    return math.log10(evidence_needed(alpha))
