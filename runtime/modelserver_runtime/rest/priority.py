"""How urgent a request says it is, in the words of OpenAI, of vLLM and of ours.

A number is vLLM's: 0 is usual, less is more urgent. The body's `priority` counts before the header,
and both before `service_tier`; a key's highest priority caps all of them.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from modelserver_runtime.engine.request import Priority
from modelserver_runtime.errors import InvalidRequest

type PriorityWish = (
    Literal["low", "normal", "high", "critical"] | Annotated[int, Field(ge=-(2**31), lt=2**31)]
)
type ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]

HEADERS = ("x-priority", "x-vllm-priority")
_TIERS: Mapping[str, Priority] = {
    "flex": Priority.LOW,
    "auto": Priority.NORMAL,
    "default": Priority.NORMAL,
    "scale": Priority.HIGH,
    "priority": Priority.HIGH,
    "fast": Priority.HIGH,
}
_WISH: TypeAdapter[PriorityWish] = TypeAdapter(PriorityWish)


def wish_of(headers: Mapping[str, str]) -> PriorityWish | None:
    """What a header asks for; raises InvalidRequest if it cannot be read."""
    for name in HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        try:
            return _WISH.validate_strings(value.strip().lower())
        except ValidationError as error:
            raise InvalidRequest(
                f"{name} is {value!r}; it must be low, normal, high, critical, or a whole number "
                "of which a smaller one is more urgent",
                param=name,
            ) from error
    return None


def priority_of(
    wish: PriorityWish | None, header: PriorityWish | None, tier: ServiceTier | None
) -> Priority:
    asked = header if wish is None else wish
    match asked:
        case None:
            return _TIERS[tier or "auto"]
        case str():
            return Priority[asked.upper()]
        case 0:
            return Priority.NORMAL
        case _:
            return Priority.HIGH if asked < 0 else Priority.LOW


def tier_served(asked: ServiceTier | None, given: Priority = Priority.CRITICAL) -> str | None:
    """What an answer says: the tier that was asked for, unless the key allows less."""
    if asked is None:
        return None
    return "default" if asked == "auto" or _TIERS[asked] > given else asked
