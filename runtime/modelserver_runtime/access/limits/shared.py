"""Limits that hold for all replicas together: the same counting, inside Redis and by its clock.

One script decides about all limits of a request, so that nobody comes in between.
"""

from collections.abc import Sequence
from typing import Any

from modelserver_runtime.access.limits.charge import (
    WINDOW_SECONDS,
    Admission,
    Charge,
    Decision,
    Slot,
    Verdict,
)
from modelserver_runtime.access.limits.meters import ROUNDING_SECONDS, STEPS, slot_verdict
from modelserver_runtime.storage import RedisStore, Script

# Shared by both scripts. A window is a hash of step → sum, a bucket the time when it is full.
# An empty `at` means Redis's own clock; tests give another.
_METERS = f"""
local WINDOW, STEPS, ROUNDING = {WINDOW_SECONDS}, {STEPS}, {ROUNDING_SECONDS}
local function clock(at)
  if at ~= '' then return tonumber(at) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local function sums_of(key, now)
  local fields, sums, gone, used = redis.call('HGETALL', key), {{}}, {{}}, 0
  for i = 1, #fields, 2 do
    local step, sum = tonumber(fields[i]), tonumber(fields[i + 1])
    if step < math.floor(now) - STEPS then
      gone[#gone + 1] = fields[i]
    else
      sums[#sums + 1] = {{step, sum}}
      used = used + sum
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  table.sort(sums, function(a, b) return a[1] < b[1] end)
  return sums, used
end
local function wait_of(sums, excess, now)
  if excess <= 0 then return 0 end
  for _, entry in ipairs(sums) do
    excess = excess - entry[2]
    if excess <= 0 then return entry[1] + STEPS + 1 - now end
  end
  return WINDOW
end
local function missing_of(key, now)
  return math.max(0, tonumber(redis.call('GET', key) or '0') - now)
end
local function fill_at(key, seconds, now)
  local text = string.format('%.17g', now + seconds)
  redis.call('SET', key, text, 'PX', math.ceil(seconds * 1000) + 1000)
end
local function add(key, step, amount)
  redis.call('HINCRBY', key, step, amount)
  redis.call('EXPIRE', key, WINDOW + 5)
end
"""

# KEYS: one for each charge, then one for the slot.
# ARGV: clock, number of charges; of each algorithm, limit, burst, cost; of the slot limit (0:
# none), holder, longest time.
_ADMIT = Script(
    name="limits-admit",
    text=_METERS
    + """
local now, count = clock(ARGV[1]), tonumber(ARGV[2])
local function charge(i)
  local at = 2 + (i - 1) * 4
  return ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
end
local function look(i, cost)
  local algorithm, limit, burst = charge(i)
  if algorithm == 'sliding_window' then
    local sums, used = sums_of(KEYS[i], now)
    return wait_of(sums, used + cost - limit, now), math.max(0, limit - used),
      wait_of(sums, used, now)
  end
  local rate, missing = limit / WINDOW, missing_of(KEYS[i], now)
  local wait = missing + (cost - burst) / rate
  if wait <= ROUNDING then wait = 0 end
  return wait, math.max(0, math.floor(burst - (missing - ROUNDING) * rate)), missing
end
local function verdicts(is_before)
  local found, are_well = {}, true
  for i = 1, count do
    local _, _, _, cost = charge(i)
    local wait, remaining, reset = look(i, is_before and cost or 0)
    found[#found + 1] = string.format('%.6f', wait)
    found[#found + 1] = remaining
    found[#found + 1] = string.format('%.6f', reset)
    if wait > 0 then are_well = false end
  end
  return found, are_well
end
local last = 2 + count * 4
local places, holder, longest = tonumber(ARGV[last + 1]), ARGV[last + 2], tonumber(ARGV[last + 3])
local taken = 0
if places > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[count + 1], '-inf', now)
  taken = redis.call('ZCARD', KEYS[count + 1])
end
local found, are_well = verdicts(true)
if are_well and (places == 0 or taken < places) then
  for i = 1, count do
    local algorithm, limit, _, cost = charge(i)
    if algorithm == 'sliding_window' then
      add(KEYS[i], math.floor(now), cost)
    else
      fill_at(KEYS[i], missing_of(KEYS[i], now) + cost * WINDOW / limit, now)
    end
  end
  if places > 0 then
    redis.call('ZADD', KEYS[count + 1], string.format('%.17g', now + longest), holder)
    redis.call('PEXPIRE', KEYS[count + 1], math.ceil(longest * 1000) + 1000)
  end
  found = verdicts(false)
end
return {string.format('%.17g', now), taken, found}
""",
)
# ARGV: clock, stamp of the admission, holder; of each charge algorithm, limit, delta.
_FINISH = Script(
    name="limits-finish",
    text=_METERS
    + """
local now, stamp = clock(ARGV[1]), tonumber(ARGV[2])
local count = (#ARGV - 3) / 3
for i = 1, count do
  local at = 3 + (i - 1) * 3
  local algorithm, limit, delta = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if algorithm == 'token_bucket' then
    local seconds = math.max(0, missing_of(KEYS[i], now) + delta * WINDOW / limit)
    if seconds > 0 then fill_at(KEYS[i], seconds, now) else redis.call('DEL', KEYS[i]) end
  elseif delta > 0 then
    add(KEYS[i], math.floor(now), delta)
  else
    local step = math.floor(stamp)
    local sum = tonumber(redis.call('HGET', KEYS[i], step) or '0')
    if sum > 0 then redis.call('HSET', KEYS[i], step, math.max(0, sum + delta)) end
  end
end
if ARGV[3] ~= '' then redis.call('ZREM', KEYS[count + 1], ARGV[3]) end
return 1
""",
)
_NO_SLOT = (0, "", 0)


class SharedLimits:
    """`at` replaces Redis's clock, in seconds; only for tests."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    @property
    def is_reachable(self) -> bool:
        """As of the last time that Redis was asked."""
        return self._store.is_reachable

    async def admit(
        self, charges: Sequence[Charge], slot: Slot | None, at: float | None = None
    ) -> Decision | None:
        """None when Redis does not answer; then it may have taken all the same."""
        arguments: list[str | float] = ["" if at is None else repr(at), len(charges)]
        for charge in charges:
            arguments += [charge.algorithm, charge.limit, charge.burst, charge.cost]
        limit = (slot.limit, slot.holder, slot.longest_seconds) if slot else _NO_SLOT
        answer = await self._store.run(_ADMIT, _names(charges, slot), [*arguments, *limit])
        return None if answer is None else _decision(charges, slot, answer)

    async def finish(
        self,
        admission: Admission,
        corrections: Sequence[tuple[Charge, int]],
        at: float | None = None,
    ) -> None:
        """If Redis does not answer, places become free by themselves and tokens stay reserved."""
        if admission.shared is None or not (corrections or admission.slot):
            return
        slot = admission.slot
        arguments: list[str | float] = ["" if at is None else repr(at)]
        arguments += [repr(admission.shared.stamp), slot.holder if slot else ""]
        for charge, delta in corrections:
            arguments += [charge.algorithm, charge.limit, delta]
        names = _names([charge for charge, _ in corrections], slot)
        await self._store.run(_FINISH, names, arguments)


def _names(charges: Sequence[Charge], slot: Slot | None) -> list[str]:
    names = [f"limit:{charge.name}" for charge in charges]
    return [*names, f"limit:slots:{slot.subject}"] if slot else names


def _decision(charges: Sequence[Charge], slot: Slot | None, answer: list[Any]) -> Decision:
    stamp, taken, found = answer
    verdicts = [
        Verdict(
            unit=charge.unit,
            subject=charge.subject,
            limit=charge.limit,
            wait_seconds=float(found[3 * index]),
            remaining=int(found[3 * index + 1]),
            reset_seconds=float(found[3 * index + 2]),
        )
        for index, charge in enumerate(charges)
    ]
    if slot:
        verdicts.append(slot_verdict(slot.subject, slot.limit, int(taken)))
    return Decision(verdicts=verdicts, stamp=float(stamp))
