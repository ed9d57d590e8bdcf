"""Everything that one decision looks at, and the ways in which a run is changed by it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from modelserver_operator.apis.rollout import CapacityPolicy, RolloutSpec
from modelserver_operator.apis.rollout_status import Decision, Holding, Rollout, RolloutPhase
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.capacity import pods_for
from modelserver_operator.rollout.effects import next_weight, wanted_revision
from modelserver_operator.rollout.frozen import rules_of
from modelserver_operator.rollout.reasons import Waiting, shortened
from modelserver_operator.rollout.sight import RevisionSight, Sight, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`run` is the state so far: each part of a decision looks at what those before it made of it.

    `status` is as it was stored, but for what a command has changed.
    """

    status: ModelServerStatus
    run: Rollout
    rules: RolloutSpec
    sight: Sight
    wish: Wish

    @property
    def now(self) -> datetime:
        return self.sight.now

    @property
    def new(self) -> RevisionSight:
        return self.sight.of(self.run.to)

    @property
    def old(self) -> RevisionSight:
        return self.sight.of(self.run.from_)

    @property
    def wanted(self) -> str:
        return wanted_revision(self.status, self.wish.target)

    @property
    def has_committed(self) -> bool:
        """The new revision is what serves."""
        return self.status.serving_revision == self.run.to

    @property
    def is_last_step(self) -> bool:
        return self.run.step_index >= len(self.rules.run_steps) - 1

    @property
    def next_weight(self) -> int:
        return next_weight(self.run, self.rules, self.wish.replicas)

    @property
    def is_stable_down(self) -> bool:
        """Pods of the old revision should be there, and none is ready."""
        return self.old.wanted > 0 and self.old.ready == 0

    @property
    def needs_route(self) -> bool:
        return self.wish.router is not Router.NONE

    def pods_for(self, percent: int) -> int:
        return pods_for(self.wish.replicas, percent, self.policy)

    @property
    def policy(self) -> CapacityPolicy:
        return self.rules.capacity_policy

    def with_run(self, run: Rollout) -> "Scene":
        has_rules = run.spec is self.run.spec  # it is parsed once, not at every change of the run
        return replace(self, run=run, rules=self.rules if has_rules else rules_of(run))

    def changed(self, **changes: Any) -> Rollout:
        return self.run.model_copy(update=changes)

    def told(self, message: str) -> Rollout:
        """It goes on by itself; nothing is missing."""
        return self.changed(holding=None, message=shortened(message))

    def held(self, reason: Waiting, message: str) -> Rollout:
        """It cannot go on; since when is kept while the reason is the same."""
        before = self.run.holding
        is_same = before is not None and before.reason == reason
        since = before.since if before is not None and is_same else clocks.timestamp(self.now)
        said = shortened(message)
        holding = Holding(reason=reason, message=said, since=since)
        return self.changed(holding=holding, message=said)

    def entered(self, phase: RolloutPhase, message: str, **changes: Any) -> Rollout:
        """The phase begins, and with it the time that it may last."""
        index = changes.get("step_index", self.run.step_index)
        patience = clocks.patience_seconds(phase, self.rules, index)
        now, said = clocks.timestamp(self.now), shortened(message)
        begun = {
            "phase": phase,
            "phase_since": now,
            "phase_deadline": clocks.later(self.now, patience),
            "holding": None,
            "message": said,
            "last_decision": Decision(at=now, verdict=phase, message=said),
        }
        return self.run.model_copy(update=begun | changes)

    def weighted(self, percent: int, message: str, **changes: Any) -> Rollout:
        """The route shall give this to the new revision; until all routers do, it may get either.

        What it may be getting at most is remembered, because its pods must be enough for that.
        """
        weights = self.run.weights
        is_known = weights.confirmed_at is not None
        most = weights.intended if is_known else max(weights.intended, weights.confirmed)
        asked = weights.model_copy(
            update={
                "intended": percent,
                "confirmed": most,
                "confirmed_at": None,
                "observed_percent": "",
            }
        )
        return self.changed(weights=asked, holding=None, message=shortened(message), **changes)

    def closed(self, phase: RolloutPhase, message: str) -> Rollout:
        """What the run has found stays; what only its next decision would have needed goes."""
        gates = tuple(
            gate.model_copy(update={"log_ratios": (), "waiting": ()}) for gate in self.run.gates
        )
        gone = {"paused": None, "spec": None, "phase_deadline": None, "deadline": None}
        return self.entered(phase, message, gates=gates, readings=(), copies=(), **gone)
