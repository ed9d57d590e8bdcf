"""Many who look at the page cost as much as one."""

import asyncio

import pytest

from modelserver_runtime.gateway.page.kept import Kept


class Kitchen:
    """Makes something new each time, in `takes` seconds."""

    def __init__(self, takes=0.0):
        self.now = 100.0
        self.takes = takes
        self.made = 0
        self.kept = Kept(lambda: self.now)

    def make(self):
        self.now += self.takes
        self.made += 1
        return b"%d" % self.made

    async def get(self, key="a"):
        return await self.kept.get(key, self.make)


async def test_what_was_just_made_is_given_to_others():
    kitchen = Kitchen()
    assert set(await asyncio.gather(*(kitchen.get() for _ in range(20)))) == {b"1"}
    kitchen.now += 0.51
    assert await kitchen.get() == b"2"


async def test_who_may_see_something_else_gets_something_else():
    kitchen = Kitchen()
    assert [await kitchen.get("a"), await kitchen.get("b"), await kitchen.get("a")] == [
        b"1",
        b"2",
        b"1",
    ]


@pytest.mark.parametrize(("passed", "is_new"), [(3.5, False), (3.7, True)])
async def test_what_takes_long_is_made_less_often(passed, is_new):
    kitchen = Kitchen(takes=0.4)
    await kitchen.get()
    kitchen.now += passed
    assert (await kitchen.get() == b"2") is is_new


async def test_of_very_many_keys_those_are_forgotten_that_were_asked_longest_ago():
    kitchen = Kitchen()
    for key in range(32):
        await kitchen.get(key)
    await kitchen.get(0)
    await kitchen.get("one more")
    assert await kitchen.get(0) == b"1"
    assert await kitchen.get(1) == b"34"


async def test_what_could_not_be_made_is_tried_again():
    kitchen = Kitchen()

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await kitchen.kept.get("a", fail)
    assert await kitchen.get() == b"1"
