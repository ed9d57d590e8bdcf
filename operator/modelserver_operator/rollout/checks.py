"""Queries and webhooks: what others say about the new revision."""

from modelserver_operator.apis.rollout import QueryCheck
from modelserver_operator.apis.rollout_status import Rollout
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.frozen import analysis_of
from modelserver_operator.rollout.gates import GateName
from modelserver_operator.rollout.reasons import Back, Waiting
from modelserver_operator.rollout.retreat import going_back_for
from modelserver_operator.rollout.scene import Scene
from modelserver_operator.rollout.sight import CheckAnswer


def names_of(scene: Scene) -> frozenset[str]:
    """As the spec says now; see `frozen`."""
    analysis = analysis_of(scene.wish.rollout)
    queries = (one.name for one in analysis.queries)
    return frozenset(queries) | {one.name for one in analysis.webhooks}


def checks_missing(scene: Scene) -> Rollout | None:
    """The run as it waits for a check, or goes back for one; None if all have passed.

    One bad sample is none: a check fails when it has failed for as long as a look takes.
    """
    wanted = names_of(scene)
    answers = {one.name: one for one in scene.sight.checks or ()}
    for name in sorted(wanted):
        answer = answers.get(name)
        if answer is None or answer.passed is None or _is_early(scene, name):
            return scene.held(Waiting.CHECK_UNANSWERED, _unanswered(scene, name, answer))
        if not answer.passed:
            return _failing(scene, answer)
    return None


def _unanswered(scene: Scene, name: str, answer: CheckAnswer | None) -> str:
    if answer is not None and answer.passed is None:
        return f"check {name} has not decided: {answer.message}"
    if answer is not None:
        return f"check {name} counts when revision {scene.run.to} has answered enough requests"
    return f"check {name} has not been answered yet"


def _is_early(scene: Scene, name: str) -> bool:
    query = next((one for one in _queries(scene) if one.name == name), None)
    answered = (gate.requests for gate in scene.run.gates if gate.name == GateName.ERRORS)
    return query is not None and next(answered, 0) < query.min_requests


def _queries(scene: Scene) -> tuple[QueryCheck, ...]:
    return analysis_of(scene.wish.rollout).queries


def _failing(scene: Scene, answer: CheckAnswer) -> Rollout:
    holding, evidence = scene.run.holding, f"check {answer.name}: {answer.message}"
    interval = analysis_of(scene.rules).interval_seconds
    was_failing = holding is not None and holding.reason == Waiting.CHECK_FAILING
    since = holding.since if holding is not None and was_failing else None
    if since is not None and clocks.seconds_since(since, scene.now) >= interval:
        return going_back_for(scene, Back.CHECK_FAILED, evidence)
    return scene.held(Waiting.CHECK_FAILING, f"{evidence}; it fails if it says so again")
