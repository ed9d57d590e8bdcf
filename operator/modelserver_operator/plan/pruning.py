"""Which children are not wanted any more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import child_revision, children_of_kind, is_going
from modelserver_operator.plan.values import ChildKey, Manifest, Observed, Removal
from modelserver_operator.resources.kinds import CONTROLLER_REVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """Everything that is observed and not desired goes, but for what these fields keep."""

    server: ModelServer
    live: frozenset[str]
    made: frozenset[str]  # live revisions whose children are among the desired
    history: frozenset[str]  # names of ControllerRevisions of old revisions
    spent: frozenset[ChildKey]  # wanted Jobs that ended without an answer: they are made anew

    def removals(
        self, desired: Mapping[ChildKey, Manifest], observed: Observed
    ) -> Iterator[Removal]:
        for key, child in sorted(observed.children.items()):
            why = self._why_again(key) if key in desired else self._why_not_wanted(key, child)
            if why and not is_going(child):
                yield Removal(key=key, uid=child["metadata"].get("uid", ""), reason=why)

    def _why_again(self, key: ChildKey) -> str:
        return "ended without an answer" if key in self.spent else ""

    def _why_not_wanted(self, key: ChildKey, child: Manifest) -> str:
        """Empty if it stays: history, or a live revision that could not be made anew."""
        revision = child_revision(child, self.server.name)
        if revision in self.live - self.made:
            return ""
        if key.kind == CONTROLLER_REVISION.kind and key.name in self.history:
            return ""
        is_old = revision and revision not in self.live
        return f"revision {revision} is not served any more" if is_old else "not wanted any more"


def history_to_keep(
    server: ModelServer, observed: Observed, live: frozenset[str], config: OperatorConfig
) -> frozenset[str]:
    """The newest ControllerRevisions of revisions that are not live."""
    old = [
        one
        for one in children_of_kind(observed, CONTROLLER_REVISION.kind)
        if child_revision(one, server.name) not in live
    ]
    newest = sorted(old, key=lambda one: -int(one.get("revision", 0)))
    rollout = server.spec.rollout
    limit = config.history_limit if rollout is None else rollout.history_limit
    return frozenset(one["metadata"]["name"] for one in newest[:limit])
