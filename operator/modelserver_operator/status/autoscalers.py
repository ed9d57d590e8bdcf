"""What the HPA and KEDA say of themselves where they cannot scale: their own words, for people."""

from collections.abc import Iterator

from modelserver_operator.plan.values import ChildKey, Manifest
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT
from modelserver_operator.status.situation import Situation

_NO_PODS = "ScalingDisabled"  # of an HPA whose Deployment is at zero: nothing is wrong


def complaint_of(situation: Situation) -> str:
    """Of the revision that serves; empty where whoever scales it can do so."""
    return next(_complaints(situation), "")


def _complaints(situation: Situation) -> Iterator[str]:
    """Of KEDA before those of its HPA, which knows less."""
    server, observed = situation.server, situation.observed
    revision = situation.plan.serving_revision
    own = names.autoscaler(server.name, revision)
    scaled = observed.children.get(ChildKey(SCALED_OBJECT.kind, own))
    if scaled is not None:
        yield from _of_scaled_object(scaled)
    hpa = observed.children.get(ChildKey(HORIZONTAL_POD_AUTOSCALER.kind, own))
    of_keda = ChildKey(
        HORIZONTAL_POD_AUTOSCALER.kind, names.autoscaler_of_keda(server.name, revision)
    )
    for one in (hpa, observed.strangers.get(of_keda)):
        if one is not None:
            yield from _of_hpa(one)


def _of_scaled_object(scaled: Manifest) -> Iterator[str]:
    states = _conditions(scaled)
    ready, fallback = states.get("Ready", {}), states.get("Fallback", {})
    if ready.get("status") == "False":
        yield f"KEDA says: {ready.get('message') or ready.get('reason', '')}"
    if fallback.get("status") == "True":
        failing = " and ".join(_failing(scaled)) or "what is asked for"
        yield f"KEDA cannot measure {failing}, and takes no pod away"


def _failing(scaled: Manifest) -> Iterator[str]:
    """Triggers by their names; KEDA's status has them by their place, as `s0-prometheus`."""
    health = scaled.get("status", {}).get("health") or {}
    for place, trigger in enumerate(scaled["spec"].get("triggers", ())):
        told = health.get(f"s{place}-{trigger['type']}") or {}
        if told.get("status") == "Failing":
            yield str(trigger.get("name") or trigger["type"])


def _of_hpa(hpa: Manifest) -> Iterator[str]:
    states = _conditions(hpa)
    for kind in ("AbleToScale", "ScalingActive"):
        state = states.get(kind, {})
        if state.get("status") == "False" and state.get("reason") != _NO_PODS:
            yield f"the HPA says: {state.get('message') or state.get('reason', '')}"


def _conditions(manifest: Manifest) -> dict[str, Manifest]:
    return {one["type"]: one for one in manifest.get("status", {}).get("conditions") or ()}
