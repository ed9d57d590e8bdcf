"""What is counted of experiments: increments, histograms, and how they are stored."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_operator.apis.experiment_status import Track
from modelserver_operator.rollout.tracks import (
    EDGES_SECONDS,
    TrackCounts,
    TrackReading,
    added,
    as_text,
    buckets_as_text,
    buckets_of_text,
    folded,
    quantile_milliseconds,
    reading_of,
    track_growth,
)

SINCE = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER, BEFORE = SINCE + timedelta(seconds=5), SINCE - timedelta(seconds=5)
COUNTS = st.integers(min_value=0, max_value=10**9)
BUCKETS = st.lists(COUNTS, min_size=len(EDGES_SECONDS) + 1, max_size=len(EDGES_SECONDS) + 1)


def read(requests, *, source="r1", began=BEFORE, track="beta"):
    counts = TrackCounts(requests=requests)
    return TrackReading(source=source, track=track, counts=counts, began=began)


GROWTH = [
    ("it grew", [read(10)], [read(15)], 5),
    ("it began anew", [read(10)], [read(3)], 3),
    ("it is new and began since", [], [read(4, began=LATER)], 4),
    ("it is new and began before", [], [read(4)], 0),
    ("nobody knows when it began", [], [read(4, began=None)], 0),
    ("two of them", [read(1), read(2, source="r2")], [read(2), read(4, source="r2")], 3),
]


@pytest.mark.parametrize(("base", "now", "more"), [case[1:] for case in GROWTH])
def test_what_is_new_is_counted_once(base, now, more):
    growth = track_growth(base, now, since=SINCE)
    assert growth.counts["beta"].requests == more
    assert track_growth(growth.base, now, since=LATER).counts["beta"].requests == 0


def test_one_that_could_not_be_read_is_counted_later():
    growth = track_growth([read(10)], [read(0, source="r2")], since=SINCE)
    assert track_growth(growth.base, [read(25)], since=LATER).counts["beta"].requests == 15


def test_nothing_is_counted_before_anything_was_read():
    growth = track_growth([], [read(9, began=LATER)], since=None)
    assert growth.counts["beta"].requests == 0


def test_a_status_stays_small_whoever_comes_and_goes():
    base = ()
    for number in range(30):
        base = track_growth(base, [read(1, source=f"r{number}")], since=SINCE).base
    assert len(base) == 8
    assert base[-1].source != base[0].source
    assert any(one.source == "r29" for one in base), "who was read last is kept"


@given(requests=COUNTS, errors=COUNTS, buckets=BUCKETS)
def test_a_reading_is_read_as_it_was_stored(requests, errors, buckets):
    counts = TrackCounts(requests=requests, errors=errors, buckets=tuple(buckets))
    reading = TrackReading(source="0a1b2c3d", track="=5d9f7c1a", counts=counts)
    assert reading_of(as_text(reading)) == reading
    assert len(as_text(reading)) <= 640
    assert len(buckets_as_text(buckets)) <= 512
    assert buckets_of_text(buckets_as_text(buckets)) == tuple(buckets)


@given(st.lists(st.floats(min_value=0.001, max_value=400), max_size=8, unique=True), st.data())
def test_another_histogram_is_rounded_up_and_loses_nothing(edges, data):
    edges = sorted(edges)
    size = len(edges) + 1
    buckets = data.draw(st.lists(st.integers(0, 100), min_size=size, max_size=size))
    found = folded(edges, buckets)
    assert sum(found) == sum(buckets)
    for edge in EDGES_SECONDS:
        within = sum(n for one, n in zip(edges, buckets, strict=False) if one <= edge)
        assert sum(found[: EDGES_SECONDS.index(edge) + 1]) == within


def at(seconds, number=100):
    buckets = [0] * (len(EDGES_SECONDS) + 1)
    buckets[EDGES_SECONDS.index(seconds)] = number
    return buckets


@pytest.mark.parametrize(
    ("buckets", "part", "milliseconds"),
    [
        (at(0.1, 19), 0.5, None),
        (at(0.1), 0.5, 88),
        (at(0.1), 0.9, 98),
        ([*[0] * len(EDGES_SECONDS), 50], 0.5, 160_000),
        ([a + b for a, b in zip(at(0.05, 90), at(5, 10), strict=True)], 0.9, 50),
        ([a + b for a, b in zip(at(0.05, 50), at(5, 50), strict=True)], 0.9, 4600),
    ],
)
def test_quantiles(buckets, part, milliseconds):
    assert quantile_milliseconds(buckets, part) == milliseconds


def test_numbers_are_added_up():
    first = added(Track(), TrackCounts(requests=30, errors=1, buckets=tuple(at(0.1, 30))))
    both = added(first, TrackCounts(requests=70, errors=0, buckets=tuple(at(0.1, 70))))
    assert (both.requests, both.errors, both.errors_percent) == (100, 1, "1")
    assert both.p50_milliseconds == 88
