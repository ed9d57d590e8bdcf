"""Schedules hold by the clock on the wall of their zone, also on the days when it is changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.autoscaling import Day, Schedule
from modelserver_operator.scaling.bounds import bounds_of
from modelserver_operator.scaling.schedule import timetable
from support.autoscalers import an_autoscaling


def a_schedule(start="08:00", end="18:00", zone="UTC", days=tuple(Day), least=3, **more):
    return Schedule(
        name="s", start=start, end=end, time_zone=zone, days=days, min_replicas=least, **more
    )


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def edges(schedule, since, hours):
    """When it begins and ends, found by looking again at each deadline that it names."""
    now, found, was = utc(since), [], None
    until = now + timedelta(hours=hours)
    while now < until:
        table = timetable([schedule], now)
        if was is not None and bool(table.active) != was:
            found.append(now.strftime("%d %H:%M"))
        was = bool(table.active)
        now += timedelta(seconds=table.next_edge_seconds)
    return found


BERLIN, YORK = "Europe/Berlin", "America/New_York"
STORIES = {
    "winter": (a_schedule(zone=BERLIN), "2026-01-14T00:00", ["14 07:00", "14 17:00"]),
    "summer": (a_schedule(zone=BERLIN), "2026-07-14T00:00", ["14 06:00", "14 16:00"]),
    "the clock skips 2 to 3, outside": (
        a_schedule(zone=BERLIN),
        "2026-03-29T00:00",
        ["29 06:00", "29 16:00"],
    ),
    "it begins in the hour that is skipped": (
        a_schedule("02:30", "05:00", BERLIN),
        "2026-03-29T00:00",
        ["29 01:30", "29 03:00"],
    ),
    "it ends in the hour that is skipped": (
        a_schedule("01:00", "02:30", BERLIN),
        "2026-03-28T12:00",
        ["29 00:00", "29 01:30"],
    ),
    "all of it is skipped": (
        a_schedule("02:30", "03:00", BERLIN, days=(Day.SUNDAY,)),
        "2026-03-28T12:00",
        [],
    ),
    "it begins in the hour that comes twice": (
        a_schedule("02:30", "05:00", BERLIN),
        "2026-10-24T12:00",
        ["25 00:30", "25 04:00"],
    ),
    "it ends in the hour that comes twice": (
        a_schedule("01:00", "02:30", BERLIN),
        "2026-10-24T12:00",
        ["24 23:00", "25 01:30"],
    ),
    "over midnight, on a day of its own": (
        a_schedule("22:00", "04:00", YORK, days=(Day.SATURDAY,)),
        "2026-06-13T12:00",
        ["14 02:00", "14 08:00"],
    ),
    "over midnight and the change of the clock": (
        a_schedule("22:00", "04:00", YORK, days=(Day.SATURDAY,)),
        "2026-03-07T12:00",
        ["08 03:00", "08 08:00"],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_it_begins_and_ends(story):
    schedule, since, wanted = STORIES[story]
    assert edges(schedule, since, hours=24) == wanted


ZONES = ["UTC", BERLIN, YORK, "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59)).map("{0[0]:02}:{0[1]:02}".format)
MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)).map(  # noqa: DTZ001  in UTC below
    lambda moment: moment.replace(tzinfo=UTC, second=0, microsecond=0)
)


def is_a_day_of_change(zone, moment):
    offsets = {
        (moment + timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in range(-48, 49)
    }
    return len(offsets) > 1


@given(
    start=TIMES,
    end=TIMES,
    zone=st.sampled_from(ZONES),
    days=st.sets(st.sampled_from(list(Day)), min_size=1),
    now=MOMENTS,
)
def test_away_from_changes_of_the_clock_the_wall_decides(start, end, zone, days, now):
    if start == end or is_a_day_of_change(ZoneInfo(zone), now):
        return
    schedule = a_schedule(start, end, zone, days=tuple(days))
    local = now.astimezone(ZoneInfo(zone))
    wall, today = local.strftime("%H:%M"), list(Day)[local.weekday()]
    yesterday = list(Day)[(local.weekday() - 1) % 7]
    if start < end:
        holds = today in days and start <= wall < end
    else:
        holds = (today in days and wall >= start) or (yesterday in days and wall < end)
    assert bool(timetable([schedule], now).active) == holds


@given(start=TIMES, end=TIMES, zone=st.sampled_from(ZONES), now=MOMENTS)
def test_nothing_changes_before_the_next_edge(start, end, zone, now):
    if start == end:
        return
    schedule = a_schedule(start, end, zone)
    table = timetable([schedule], now)
    assert table.next_edge_seconds is not None
    just_before = now + timedelta(seconds=table.next_edge_seconds - 1)
    assert timetable([schedule], just_before).active == table.active


def test_a_zone_that_nobody_knows_is_said_and_does_not_hold():
    table = timetable([a_schedule("00:00", "23:59", "Mars/Olympus")], utc("2026-01-14T12:00"))
    assert table.active == ()
    assert table.next_edge_seconds is None
    assert "write one like Europe/Berlin" in table.problems[0]


BOUNDS = {
    "none": ([], 0, (1, 10)),
    "it raises the least": ([a_schedule(least=4)], 0, (4, 10)),
    "it lowers the most": ([a_schedule(least=2, max_replicas=3)], 0, (2, 3)),
    "of two the larger numbers count": (
        [a_schedule(least=2, max_replicas=3), a_schedule(least=4, max_replicas=6)],
        0,
        (4, 6),
    ),
    "it raises the most": ([a_schedule(least=12, max_replicas=20)], 0, (12, 20)),
    "a rollout's floor is above every most": ([a_schedule(least=2, max_replicas=3)], 5, (5, 5)),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_what_holds_sets_the_bounds(case):
    active, floor, wanted = BOUNDS[case]
    bounds = bounds_of(an_autoscaling(), active, floor=floor)
    assert (bounds.least, bounds.most) == wanted
