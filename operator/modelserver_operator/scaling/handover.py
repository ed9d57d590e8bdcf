"""Who writes `spec.replicas` of a revision's Deployment, and the next safe step to somebody else.

A field that its only owner leaves out of an apply falls back to the API's default of 1. So

    giving   a second manager applies the number that is there → the main apply leaves it out →
             the autoscaler is made, and takes the field with its first write
    taking   the autoscaler goes, with all that it has made → the operator's stored wish follows the
             number that is there → the main apply carries that wish
    passing  from one autoscaler to another: the first goes, the second is made; nobody writes in
             between, and the number stays

Each step is told by what is there, so one that was cut short is done again, and no more. Every
write names the version that was looked at: where an autoscaler was faster, it is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelserver_operator.apis.autoscaling import ScalingEngine

MAIN_MANAGER = "modelserver-operator"
HANDOVER_MANAGER = "modelserver-operator-handover"
# Of the gateway's patch of `deployments/scale` from 0 to 1.
GATEWAY_MANAGER = "modelserver-gateway"

type Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Of `spec.replicas` of one Deployment."""

    replicas: int
    owners: frozenset[str] = frozenset()  # managers

    @property
    def is_ours(self) -> bool:
        return MAIN_MANAGER in self.owners

    @property
    def is_shared(self) -> bool:
        """Whether it stays when the main apply leaves it out.

        Any second owner would do. But this one tells a Deployment that the gateway has woken, whose
        only owner is the gateway, from one that has been handed over at one pod ever since.
        """
        return HANDOVER_MANAGER in self.owners

    @property
    def is_woken(self) -> bool:
        """Whether the gateway has asked for a pod since the operator took the last one away."""
        return self.replicas > 0 and self.owners == {GATEWAY_MANAGER}


@dataclass(frozen=True, slots=True, kw_only=True)
class WritersSeen:
    """`ownership` is None while there is no Deployment.

    `autoscalers` are those objects of ours that exist; one that is being deleted exists. With
    KEDA's ScaledObject counts the HPA that KEDA made for it, which outlives it for a moment.
    """

    ownership: Ownership | None = None
    autoscalers: frozenset[ScalingEngine] = frozenset()


class Step(StrEnum):
    OWN = "Own"
    SHARE = "Share"
    RELEASE = "Release"
    CREATE = "Create"
    DELEGATED = "Delegated"
    REMOVE = "Remove"
    FOLLOW = "Follow"
    WOKEN = "Woken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What is to be written now; the next look says what then.

    `main_replicas` is what the main apply carries, None if it leaves the field out.
    `shared_replicas` is applied by HANDOVER_MANAGER, and nothing else of that Deployment in the
    same step. Of autoscalers only `autoscaler` shall exist, and all others go.
    """

    step: Step
    main_replicas: int | None
    shared_replicas: int | None = None
    autoscaler: ScalingEngine | None = None
    message: str = ""  # what is under way; "" when it is done

    @property
    def is_done(self) -> bool:
        return self.step in {Step.OWN, Step.DELEGATED}


def ownership_of(deployment: Manifest) -> Ownership:
    return Ownership(
        replicas=int(deployment["spec"].get("replicas", 1)),  # the API's default
        owners=frozenset(str(entry.get("manager", "")) for entry in _entries(deployment)),
    )


def _entries(deployment: Manifest) -> Iterable[Manifest]:
    """Of `managedFields`, by whom the number of pods was written."""
    for entry in deployment["metadata"].get("managedFields", []):
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {}):
            yield entry


def next_handover(
    wanted: ScalingEngine,
    desired: int,
    seen: WritersSeen,
    *,
    is_asleep: bool = False,
    is_scaled: bool = False,
) -> Handover:
    """`desired` is the operator's own wish, 0 where there shall be no pod.

    While a server `is_asleep`, the pod that its gateway has asked for is left alone until the
    status says so, too. `is_scaled` is whether `desired` follows what there is (`machine`), and not
    a number that somebody has written.
    """
    if seen.ownership is None:
        return Handover(step=Step.OWN, main_replicas=desired, autoscaler=None)
    if is_asleep and desired == 0 and seen.ownership.is_woken:
        return Handover(step=Step.WOKEN, main_replicas=None, message="the gateway asks for a pod")
    if wanted in {ScalingEngine.HPA, ScalingEngine.KEDA} and desired > 0:
        return _given(wanted, seen.ownership, seen.autoscalers)
    return _taken(desired, seen.ownership, seen.autoscalers, is_scaled=is_scaled)


def is_unowned(desired: Manifest, observed: Manifest) -> bool:
    """Whether the main apply is to carry a number that is not the operator's yet.

    Then it must be written, even where nothing differs: an autoscaler has written the same number.
    Who has written the whole Deployment anew, with that number, takes nothing away.
    """
    is_lent = any(_is_lent(entry) for entry in _entries(observed))
    return is_lent and "replicas" in desired["spec"] and not ownership_of(observed).is_ours


def _is_lent(entry: Manifest) -> bool:
    return entry.get("subresource") == "scale" or entry.get("manager") == HANDOVER_MANAGER


def _given(
    wanted: ScalingEngine, ownership: Ownership, there: frozenset[ScalingEngine]
) -> Handover:
    live = ownership.replicas
    if live == 0 or ownership.is_woken:
        # An autoscaler leaves a Deployment at zero alone: the operator wakes it, or takes what the
        # gateway has woken; what is left of an earlier autoscaler goes.
        return _taken(max(1, live), ownership, there)
    if ownership.is_ours and not ownership.is_shared:
        message = f"spec.replicas is handed over to {wanted}"
        return Handover(step=Step.SHARE, main_replicas=live, shared_replicas=live, message=message)
    if ownership.is_ours:
        message = f"spec.replicas is left to {wanted}"
        return Handover(step=Step.RELEASE, main_replicas=None, message=message)
    if others := there - {wanted}:
        return Handover(step=Step.REMOVE, main_replicas=None, message=_going(others))
    if wanted not in there:
        message = f"{wanted} is told to scale"
        return Handover(step=Step.CREATE, main_replicas=None, autoscaler=wanted, message=message)
    return Handover(step=Step.DELEGATED, main_replicas=None, autoscaler=wanted)


def _taken(
    desired: int,
    ownership: Ownership,
    there: frozenset[ScalingEngine],
    *,
    is_scaled: bool = False,
) -> Handover:
    live = ownership.replicas
    if there:
        kept = live if ownership.is_ours else None
        return Handover(step=Step.REMOVE, main_replicas=kept, message=_going(there))
    if is_scaled and 0 < desired < live and not ownership.is_ours:
        message = f"the operator takes {live} pods over, and has noted {desired} so far"
        return Handover(step=Step.FOLLOW, main_replicas=None, message=message)
    return Handover(step=Step.OWN, main_replicas=desired)


def _going(engines: Iterable[ScalingEngine]) -> str:
    return f"{' and '.join(sorted(engines))} is taken away, and seen to be gone, first"
