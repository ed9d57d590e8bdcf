"""Whether the last pod goes, and what must stand in its place before it does.

    Warm → Standby → Cold → Waking → Warm
             ↓ activity        ↑ a request, a schedule, a run, the spec
            Warm

The phase is what was stored; nothing here happens before it has been.
"""

from dataclasses import dataclass
from datetime import datetime

from modelserver_operator.apis.autoscaling import Zero
from modelserver_operator.apis.scaling_status import ScalingStatus, ZeroPhase, ZeroStatus
from modelserver_operator.scaling.times import believed, parse, seconds_since, timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSight:
    """One look.

    `is_slice_seen` is whether the gateway's addresses are in the root Service, and
    `is_gateway_ready` whether there is a gateway to be found at them. `is_quiet` is None if
    nobody can tell, which is no activity and lets nothing sleep either. `awake_because` is why it
    must not sleep now: a schedule, a run, pods that are wanted; "" if it may.
    """

    now: datetime
    is_woken: bool  # the gateway has asked for a pod where there shall be none
    ready: int
    is_slice_seen: bool
    is_gateway_ready: bool
    is_quiet: bool | None
    awake_because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """The next phase, and what was learnt. `wake_seconds` is when to look again."""

    zero: ZeroStatus
    cold_start_seconds: int | None
    is_active: bool = False  # this look is the newest activity
    wake_seconds: float | None = None


def next_sleep(stored: ScalingStatus, sight: ZeroSight, rules: Zero, settle: float) -> Sleep:
    """`settle` is how long, in seconds, it takes every proxy to learn of an endpoint."""
    zero = _mended(stored.zero or _phase(ZeroPhase.WARM, "", sight), sight)
    if zero.phase is ZeroPhase.WARM:
        return _warm(zero, stored, sight, rules)
    if zero.phase is ZeroPhase.STANDBY:
        return _standby(zero, stored, sight, settle)
    if zero.phase is ZeroPhase.COLD:
        return _cold(zero, stored, sight)
    return _waking(zero, stored, sight, settle)


def idle_limit_seconds(stored: ScalingStatus, rules: Zero) -> int:
    """A server that starts slowly is not worth putting to sleep for less than its start takes."""
    return max(rules.idle_seconds, stored.cold_start_seconds or 0)


def _warm(zero: ZeroStatus, stored: ScalingStatus, sight: ZeroSight, rules: Zero) -> Sleep:
    if sight.awake_because or not sight.is_quiet:
        return _same(zero, stored, is_active=sight.is_quiet is False)
    left = idle_limit_seconds(stored, rules) - seconds_since(_active_since(zero, stored), sight.now)
    if left > 0 or not sight.is_gateway_ready:
        return _same(zero, stored, wake_seconds=max(1.0, left))
    return _changed(ZeroPhase.STANDBY, "Idle", stored, sight)


def _active_since(zero: ZeroStatus, stored: ScalingStatus) -> str:
    """A server that has just become warm has not been idle before that."""
    return max(zero.since, stored.last_active_at or zero.since)


def _standby(zero: ZeroStatus, stored: ScalingStatus, sight: ZeroSight, settle: float) -> Sleep:
    if sight.awake_because:
        return _changed(ZeroPhase.WARM, sight.awake_because, stored, sight)
    if sight.is_quiet is False:
        return _changed(ZeroPhase.WARM, "Activity", stored, sight, is_active=True)
    if not (sight.is_slice_seen and sight.is_gateway_ready):
        return _settling(zero, None, stored)
    since = zero.settling_since or timestamp(sight.now)
    left = settle - seconds_since(since, sight.now)
    if left > 0 or sight.is_quiet is None:
        return _settling(zero, since, stored, wake_seconds=max(1.0, left))
    return _changed(ZeroPhase.COLD, "Idle", stored, sight)


def _cold(zero: ZeroStatus, stored: ScalingStatus, sight: ZeroSight) -> Sleep:
    if reason := sight.awake_because or ("Request" if sight.is_woken else ""):
        return _changed(ZeroPhase.WAKING, reason, stored, sight, is_active=True)
    return _same(zero, stored)


def _waking(zero: ZeroStatus, stored: ScalingStatus, sight: ZeroSight, settle: float) -> Sleep:
    if sight.ready == 0:
        return _settling(zero, None, stored)
    if zero.settling_since is None:
        taken = round(seconds_since(zero.since, sight.now))
        started = _settling(zero, timestamp(sight.now), stored, wake_seconds=settle)
        return Sleep(
            zero=started.zero,
            cold_start_seconds=_averaged(stored.cold_start_seconds, taken),
            wake_seconds=settle,
        )
    left = settle - seconds_since(zero.settling_since, sight.now)
    if left > 0:
        return _same(zero, stored, wake_seconds=left)
    return _changed(ZeroPhase.WARM, "Ready", stored, sight)


def _averaged(before: int | None, taken: int) -> int:
    """Half of it is the last one: an image that is on the node by now shows within two starts."""
    return taken if before is None else round((before + taken) / 2)


def _mended(zero: ZeroStatus, sight: ZeroSight) -> ZeroStatus:
    """Where the clock was set back."""
    if parse(zero.since) <= sight.now and (
        zero.settling_since is None or parse(zero.settling_since) <= sight.now
    ):
        return zero
    since = believed(zero.since, sight.now) or zero.since
    settling = believed(zero.settling_since, sight.now)
    return zero.model_copy(update={"since": since, "settling_since": settling})


def _phase(phase: ZeroPhase, reason: str, sight: ZeroSight) -> ZeroStatus:
    return ZeroStatus(phase=phase, since=timestamp(sight.now), reason=reason)


def _same(
    zero: ZeroStatus,
    stored: ScalingStatus,
    *,
    is_active: bool = False,
    wake_seconds: float | None = None,
) -> Sleep:
    return Sleep(
        zero=zero,
        cold_start_seconds=stored.cold_start_seconds,
        is_active=is_active,
        wake_seconds=wake_seconds,
    )


def _settling(
    zero: ZeroStatus, since: str | None, stored: ScalingStatus, *, wake_seconds: float | None = None
) -> Sleep:
    settling = zero.model_copy(update={"settling_since": since})
    return _same(settling, stored, wake_seconds=wake_seconds)


def _changed(
    phase: ZeroPhase,
    reason: str,
    stored: ScalingStatus,
    sight: ZeroSight,
    *,
    is_active: bool = False,
) -> Sleep:
    return _same(_phase(phase, reason, sight), stored, is_active=is_active)
