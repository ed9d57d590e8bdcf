"""Which queries and webhooks are to be asked now, and what they are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from modelserver_operator.apis.rollout import QueryCheck, WebhookCheck
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.rollout.clocks import is_count_due
from modelserver_operator.rollout.frozen import analysis_of, rules_of
from modelserver_operator.rollout.sight import Wish

EXAMINING = frozenset({RolloutPhase.ANALYZING, RolloutPhase.BAKING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """`words` stand for `$NAMESPACE` and the like in queries; `state` is what webhooks get."""

    namespace: str = ""
    queries: tuple[QueryCheck, ...] = ()
    webhooks: tuple[WebhookCheck, ...] = ()
    words: Mapping[str, str] = MappingProxyType({})
    state: Mapping[str, str | int] = MappingProxyType({})

    def __bool__(self) -> bool:
        return bool(self.queries or self.webhooks)


NO_CHECKS = Checks()


def checks_of(server: ModelServer, wish: Wish, now: datetime) -> Checks:
    """As often as requests are counted; as the spec says now, so that a mistake can be mended."""
    run, analysis = server.status.rollout, analysis_of(wish.rollout)
    if run is None or run.phase not in EXAMINING or not is_count_due(run, rules_of(run), now):
        return NO_CHECKS
    return Checks(
        namespace=server.namespace,
        queries=analysis.queries,
        webhooks=analysis.webhooks,
        words=_words(server, run),
        state=_state(server, run),
    )


def _words(server: ModelServer, run: Rollout) -> dict[str, str]:
    interval = analysis_of(rules_of(run)).interval_seconds
    return {
        "NAMESPACE": server.namespace,
        "SERVER": server.name,
        "STABLE": run.from_,
        "CANARY": run.to,
        "WINDOW": f"{interval}s",
    }


def _state(server: ModelServer, run: Rollout) -> dict[str, str | int]:
    return {
        "namespace": server.namespace,
        "server": server.name,
        "id": run.id,
        "phase": str(run.phase),
        "stepIndex": run.step_index,
        "weightPercent": run.weights.intended,
        "stable": run.from_,
        "canary": run.to,
    }
