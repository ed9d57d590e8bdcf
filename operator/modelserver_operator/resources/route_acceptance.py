"""Whether those who carry out a route have taken it as it is written now."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelserver_operator.resources.kinds import SERVICE

type Manifest = Mapping[str, Any]

# Of every parent; by the Gateway API, a controller sets both on each route that it knows.
_REQUIRED = ("Accepted", "ResolvedRefs")
# Set only where a part of the route is not carried out.
_PARTLY = "PartiallyInvalid"


class AcceptanceState(StrEnum):
    ACCEPTED = "Accepted"
    PENDING = "Pending"
    REFUSED = "Refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """`message` says in a sentence who refused what, or what is waited for."""

    state: AcceptanceState
    message: str = ""


def acceptance_of(routes: Iterable[Manifest]) -> Acceptance:
    """Of all HTTPRoutes of a server together: refused beats pending, pending beats accepted.

    A route into a mesh counts only where a mesh has answered, unless it is the only one: a cluster
    with Gateways need not have a mesh.
    """
    routes = list(routes)
    counted = [one for one in routes if _leads_from_gateway(one) or _is_answered(one)] or routes
    found = [one for route in counted for one in _of_route(route)]
    for state in (AcceptanceState.REFUSED, AcceptanceState.PENDING):
        if worst := next((one for one in found if one.state is state), None):
            return worst
    if not found:
        return Acceptance(state=AcceptanceState.PENDING, message="there is no HTTPRoute yet")
    return Acceptance(state=AcceptanceState.ACCEPTED)


def istio_acceptance_of(objects: Iterable[Manifest]) -> Acceptance:
    """Of VirtualServices and DestinationRules. Istio says nothing of what it takes.

    Where its analysis is on (`PILOT_ENABLE_ANALYSIS`), it writes what is wrong with an object.
    """
    found = [(one, message) for one in objects for message in _errors_of(one)]
    if not found:
        return Acceptance(state=AcceptanceState.ACCEPTED)
    manifest, message = found[0]
    kind = message.get("type") or {}
    said = " ".join(filter(None, (kind.get("code"), kind.get("name"))))
    more = f" ({message['documentationUrl']})" if message.get("documentationUrl") else ""
    refusal = f"{manifest['kind']} {_name(manifest)}: Istio's analysis says {said}{more}"
    return Acceptance(state=AcceptanceState.REFUSED, message=refusal)


def _errors_of(manifest: Manifest) -> list[Manifest]:
    """Of its latest version. Numbers of 64 bits may come as text."""
    status = manifest.get("status") or {}
    seen = int(status.get("observedGeneration") or 0)
    if seen < manifest["metadata"].get("generation", 0):
        return []
    return [one for one in status.get("validationMessages") or () if one.get("level") == "ERROR"]


def _of_route(route: Manifest) -> Iterator[Acceptance]:
    for parent in route["spec"]["parentRefs"]:
        answers = [one for one in _answers(route) if _is_same(one["parentRef"], parent, route)]
        if not answers:
            yield _unanswered(route, parent)
        for answer in answers:
            yield _of_answer(route, answer)


def _unanswered(route: Manifest, parent: Manifest) -> Acceptance:
    who = _shown(parent)
    hint = (
        "a mesh that implements the Gateway API must be installed"
        if parent["kind"] == SERVICE.kind
        else "look whether the Gateway exists and its controller runs"
    )
    message = f"HTTPRoute {_name(route)} has no answer of {who} yet; {hint}"
    return Acceptance(state=AcceptanceState.PENDING, message=message)


def _of_answer(route: Manifest, answer: Manifest) -> Acceptance:
    generation = route["metadata"].get("generation", 0)
    current = {
        one["type"]: one
        for one in answer.get("conditions") or ()
        if one.get("observedGeneration", 0) >= generation
    }
    refusals = [one for name, one in current.items() if one["status"] == _bad(name)]
    if refusals:
        return Acceptance(
            state=AcceptanceState.REFUSED, message=_refusal(route, answer, refusals[0])
        )
    if any(current.get(name, {}).get("status") != "True" for name in _REQUIRED):
        who = _shown(answer["parentRef"])
        message = f"HTTPRoute {_name(route)}: {who} has not taken its latest version yet"
        return Acceptance(state=AcceptanceState.PENDING, message=message)
    return Acceptance(state=AcceptanceState.ACCEPTED)


def _bad(condition: str) -> str:
    """The status that means a refusal; no condition ever has the empty one."""
    if condition == _PARTLY:
        return "True"
    return "False" if condition in _REQUIRED else ""


def _refusal(route: Manifest, answer: Manifest, condition: Manifest) -> str:
    who = _shown(answer["parentRef"])
    controller = answer.get("controllerName", "its controller")
    return (
        f"HTTPRoute {_name(route)} is not carried out by {who}: {controller} says"
        f" {condition['type']}={condition['status']}, {condition['reason']}:"
        f" {condition.get('message', '')}"
    )


def _answers(route: Manifest) -> list[Manifest]:
    return (route.get("status") or {}).get("parents") or []


def _is_answered(route: Manifest) -> bool:
    return bool(_answers(route))


def _leads_from_gateway(route: Manifest) -> bool:
    return any(one["kind"] != SERVICE.kind for one in route["spec"]["parentRefs"])


def _is_same(answered: Manifest, wanted: Manifest, route: Manifest) -> bool:
    own = route["metadata"]["namespace"]

    def key(parent: Manifest) -> tuple[str, str, str]:
        return parent.get("kind", "Gateway"), parent.get("namespace", own), parent["name"]

    return key(answered) == key(wanted)


def _name(route: Manifest) -> str:
    return str(route["metadata"]["name"])


def _shown(parent: Manifest) -> str:
    namespace = f"{parent['namespace']}/" if "namespace" in parent else ""
    return f"{parent.get('kind', 'Gateway')} {namespace}{parent['name']}"
