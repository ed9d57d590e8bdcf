"""What waits is taken at once, in order, and nothing is lost."""

import asyncio

from modelserver_runtime.engine.mailbox import Mailbox
from modelserver_runtime.engine.output import Delta, FinishReason, joined
from modelserver_runtime.identifiers import random_hex


async def test_all_that_waits_is_taken_at_once_in_its_order():
    box: Mailbox[int] = Mailbox()
    for item in range(3):
        box.put(item)
    assert await box.take() == [0, 1, 2]


async def test_a_reader_waits_for_the_first_item():
    box: Mailbox[int] = Mailbox()
    taking = asyncio.ensure_future(box.take())
    await asyncio.sleep(0)
    assert not taking.done()
    box.put(1)
    box.put(2)
    assert await taking == [1, 2]


async def test_a_reader_that_left_takes_nothing_with_it():
    box: Mailbox[int] = Mailbox()
    taking = asyncio.ensure_future(box.take())
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.wait({taking})
    box.put(1)
    assert await box.take() == [1]


def test_joined_deltas_say_what_their_parts_said():
    parts = [
        Delta(text="a", completion_tokens=1, cached_tokens=4),
        Delta(text="", completion_tokens=2),
        Delta(text="bc", completion_tokens=4, finish_reason=FinishReason.LENGTH),
    ]
    whole = joined(parts)
    assert (whole.text, whole.completion_tokens, whole.cached_tokens) == ("abc", 4, 4)
    assert whole.finish_reason is FinishReason.LENGTH
    assert joined(parts[:1]) is parts[0]


def test_names_are_long_and_never_the_same():
    names = [random_hex(12) for _ in range(2000)]
    assert {len(name) for name in names} == {24}
    assert len(set(names)) == len(names)
