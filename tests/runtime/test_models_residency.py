"""Who leaves memory: the one used longest ago, never one that may not, and no more than needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.models.residency import NoRoom, Resident, Room, victims

residents_of = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        size_bytes=st.integers(0, 100),
        last_used=st.floats(0, 1000),
        is_busy=st.booleans(),
        may_leave=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda resident: resident.name,
)
rooms = st.builds(Room, models=st.integers(1, 5), budget_bytes=st.integers(0, 300))


@given(residents_of, st.integers(0, 150), rooms)
def test_what_stays_fits_and_nobody_leaves_in_vain(residents, wanted, room):
    try:
        leaving = victims(residents, wanted, room)
    except NoRoom:
        kept = [resident for resident in residents if not resident.may_leave]
        assert not fits(kept, wanted, room)
        return
    assert fits([each for each in residents if each.name not in leaving], wanted, room)
    if leaving:
        without_last = [each for each in residents if each.name not in leaving[:-1]]
        assert not fits(without_last, wanted, room)


@given(residents_of, st.integers(0, 150), rooms)
def test_they_leave_in_order_of_age_and_idle_ones_first(residents, wanted, room):
    try:
        leaving = victims(residents, wanted, room)
    except NoRoom:
        return
    by_name = {resident.name: resident for resident in residents}
    keys = [(by_name[name].is_busy, by_name[name].last_used) for name in leaving]
    assert all(by_name[name].may_leave for name in leaving)
    assert keys == sorted(keys)
    staying = [each for each in residents if each.may_leave and each.name not in leaving]
    assert all(keys[-1] <= (each.is_busy, each.last_used) for each in staying if keys)


def fits(residents: list[Resident], wanted: int, room: Room) -> bool:
    taken = sum(resident.size_bytes for resident in residents)
    return len(residents) < room.models and taken + wanted <= room.budget_bytes


def test_what_is_in_the_way_is_said():
    pinned = Resident(name="a", size_bytes=70, last_used=0, may_leave=False)
    with pytest.raises(NoRoom, match="it needs about 40 bytes, and at most 30 can be freed"):
        victims([pinned], 40, Room(models=3, budget_bytes=100))
    with pytest.raises(NoRoom, match="1 models that may not be unloaded are in memory"):
        victims([pinned], 1, Room(models=1, budget_bytes=100))
