"""Which device a model is computed on."""

import logging
from collections.abc import Callable, Iterator, Sequence

from modelserver_runtime.backends.hardware import Device
from modelserver_runtime.errors import InvalidConfiguration, UnsupportedModel

log = logging.getLogger(__name__)

AUTO = "Auto"

# Why a device cannot serve this model's task; empty if it can.
type Objection = Callable[[Device], str]


def choose(
    wanted: str,
    order: Sequence[str],
    found: Sequence[Device],
    *,
    may_fall_back: bool,
    objection: Objection = lambda _: "",
) -> Device:
    """The named device, or for Auto the first of the order; raises a StartupFailure without one.

    A named device that is unusable gives way to the order only if it may.
    """
    if wanted == AUTO:
        return _first_of(order, found, objection)
    device, reason = _usable(wanted, found, objection)
    if device is not None:
        return device
    if may_fall_back:
        log.warning("The device %s cannot be used: %s; taking the next", wanted, reason)
        return _first_of(order, found, objection)
    raise _refusal(wanted, reason, found, objection)


def _usable(
    wanted: str, found: Sequence[Device], objection: Objection
) -> tuple[Device | None, str]:
    """The device of this name, or the first usable one of this kind; else why there is none."""
    reasons = []
    for device in _named(wanted, found):
        reason = device.reason or objection(device)
        if not reason:
            return device, ""
        reasons.append(reason)
    names = ", ".join(device.name for device in found if device.kind == wanted.partition(":")[0])
    return None, reasons[0] if reasons else f"there is no such device; there are {names}"


def _named(wanted: str, found: Sequence[Device]) -> Iterator[Device]:
    kind, _, which = wanted.partition(":")
    of_kind = [device for device in found if device.kind == kind]
    for device in of_kind:
        # A kind that is not there has one entry, which says why.
        if not which or device.name in {wanted, kind}:
            yield device


def _first_of(order: Sequence[str], found: Sequence[Device], objection: Objection) -> Device:
    reasons = []
    for name in order:
        device, reason = _usable(name, found, objection)
        if device is not None:
            return device
        reasons.append(f"{name}: {reason}")
    raise InvalidConfiguration(
        f"None of the devices can be used: {'; '.join(reasons)}",
        hint="Add cpu to the order of devices.",
    )


def _refusal(
    wanted: str, reason: str, found: Sequence[Device], objection: Objection
) -> InvalidConfiguration | UnsupportedModel:
    """The machine lacks the device, or the device cannot serve the task."""
    usable = [device.name for device in found if device.is_usable and not objection(device)]
    hint = (
        f"Usable are {', '.join(usable)}; or let the next one be taken with "
        "MODELSERVER_DEVICE_FALLBACK=true."
    )
    device, _ = _usable(wanted, found, lambda _: "")
    kind = InvalidConfiguration if device is None else UnsupportedModel
    return kind(f"The device {wanted} cannot be used: {reason}", hint=hint)
