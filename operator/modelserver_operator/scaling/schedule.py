"""Which schedules hold at a moment, and when that changes.

Times of the day are those of the schedule's zone. Where a change of the clock makes a time come
twice, a schedule begins at the first and ends at the second; where it skips a time, the schedule
begins or ends as much later as the clock skips. So pods are rather there too long than too short.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from modelserver_operator.apis.autoscaling import Day, Schedule, minutes_of, zone_of

_DAYS = tuple(Day)
# An occurrence that holds now began at most two local days ago; the next edge of a schedule of one
# day a week comes within eight.
_FIRST_DAY, _LAST_DAY = -2, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Half open: it holds at `start` and no longer at `end`."""

    schedule: Schedule
    start: datetime
    end: datetime

    def holds_at(self, now: datetime) -> bool:
        return self.start <= now < self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """`next_edge_seconds` is when to look again; `problems` are sentences for the user."""

    active: tuple[Schedule, ...] = ()
    next_edge_seconds: float | None = None
    problems: tuple[str, ...] = ()


def timetable(schedules: Sequence[Schedule], now: datetime) -> Timetable:
    """`now` is aware. A schedule in a zone that nobody knows does not hold."""
    known = [one for one in schedules if zone_of(one.time_zone) is not None]
    found = [one for schedule in known for one in _occurrences(schedule, now)]
    edges = [edge for one in found for edge in (one.start, one.end) if edge > now]
    return Timetable(
        active=tuple(dict.fromkeys(one.schedule for one in found if one.holds_at(now))),
        next_edge_seconds=min((edge - now).total_seconds() for edge in edges) if edges else None,
        problems=tuple(_unknown(one) for one in schedules if one not in known),
    )


def _unknown(schedule: Schedule) -> str:
    return (
        f"schedule {schedule.name} has the time zone {schedule.time_zone}, which is not in the IANA"
        " database; write one like Europe/Berlin"
    )


def _occurrences(schedule: Schedule, now: datetime) -> Iterator[Occurrence]:
    zone = ZoneInfo(schedule.time_zone)
    today = now.astimezone(zone).date()
    for offset in range(_FIRST_DAY, _LAST_DAY):
        day = today + timedelta(days=offset)
        if _DAYS[day.weekday()] not in schedule.days:
            continue
        start = _first(day, schedule.start, zone)
        end = _last(day + timedelta(days=schedule.is_overnight), schedule.end, zone)
        if start < end:  # not so where the clock skips all of it
            yield Occurrence(schedule=schedule, start=start, end=end)


def _first(day: date, clock_time: str, zone: ZoneInfo) -> datetime:
    """A skipped time is read with the offset before the change: as much later as is skipped."""
    return datetime.combine(day, time(*minutes_of(clock_time)), zone).astimezone(UTC)


def _last(day: date, clock_time: str, zone: ZoneInfo) -> datetime:
    """Of a time that comes twice the second; of a skipped one what `_first` says, too."""
    local = datetime.combine(day, time(*minutes_of(clock_time)), zone)
    return max(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
