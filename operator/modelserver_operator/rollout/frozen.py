"""The rules of a run: `spec.rollout` as it was when the run began.

Queries and webhooks are not among them: nothing of them is counted, so a mistake in one can be
corrected while a run waits for its answer.
"""

import json
from typing import Any

from pydantic import BaseModel

from modelserver_operator.apis.rollout import Analysis, RolloutSpec, Strategy
from modelserver_operator.apis.rollout_status import Rollout

type Fields = dict[str, Any]


def frozen(spec: RolloutSpec) -> Fields:
    """Without defaults; but a part that is given is never empty, since an empty part says no more
    than one that is absent.
    """  # noqa: D205  one sentence
    analysis = spec.analysis
    if analysis is not None:
        analysis = analysis.model_copy(update={"queries": (), "webhooks": ()})
    return _without_defaults(spec.model_copy(update={"analysis": analysis, "paused": False}))


def _without_defaults(model: BaseModel) -> Fields:
    said = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    whole = model.model_dump(mode="json", by_alias=True)
    for name, field in type(model).model_fields.items():
        part, alias = getattr(model, name), field.alias or name
        if isinstance(part, BaseModel) and alias in said:
            said[alias] = _without_defaults(part) or dict([next(iter(whole[alias].items()))])
    return said


def rules_of(run: Rollout) -> RolloutSpec:
    return RolloutSpec.model_validate_json(json.dumps(run.spec or {}))


def analysis_of(rules: RolloutSpec) -> Analysis:
    return rules.analysis or Analysis()


def is_swap(run: Rollout) -> bool:
    """The old pods end before the new ones start."""
    return run.strategy in {Strategy.RECREATE, Strategy.HOLD_AND_SWAP}
