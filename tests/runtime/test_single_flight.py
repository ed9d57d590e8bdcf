"""Equal requests in flight: one computation, whoever comes, goes, is late or is slow."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelserver_runtime.cache.reading import Reading
from modelserver_runtime.cache.single_flight import Flight, FlightRules, SingleFlight
from modelserver_runtime.engine.request import Priority, Ticket
from modelserver_runtime.errors import (
    BackendFailure,
    Overloaded,
    RequestTimeout,
)

END = "."


class Model:
    """Spells the request letter by letter, one a second; x fails, and so do late requests."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []
        self.cancelled = 0
        self.landed: dict[bytes, str] = {}
        self.is_full = False

    @asynccontextmanager
    async def compute(
        self, flights: Sequence[Flight[str, str]], ticket: Ticket
    ) -> AsyncIterator[AsyncIterator[tuple[int, str]]]:
        self.runs.append([flight.request for flight in flights])
        if self.is_full:
            raise Overloaded("full")
        try:
            async with aclosing(self._spell(flights, ticket)) as pieces:
                yield pieces
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def _spell(self, flights: Any, ticket: Ticket) -> AsyncIterator[tuple[int, str]]:
        words = [flight.request + END for flight in flights]
        for place in range(max(map(len, words))):
            await asyncio.sleep(1)
            if asyncio.get_running_loop().time() >= ticket.deadline:
                raise RequestTimeout("late")
            for index, word in enumerate(words):
                if word[place : place + 1] == "x":
                    raise BackendFailure("x")
                if place < len(word):
                    yield index, word[place]

    def land(self, flight: Flight[str, str]) -> None:
        self.landed[flight.key] = "".join(flight.chunks)


class Table:
    """What `CachedCalls` does with single flights, without storing anything."""

    def __init__(self) -> None:
        self.model = Model()
        rules = FlightRules(
            is_last=lambda piece: piece == END,
            is_same=lambda one, other: one == other,
            on_landing=self.model.land,
        )
        self.flights: SingleFlight[str, str] = SingleFlight(self.model.compute, rules)

    async def read(
        self, *words: str, seconds: float = 100, priority: Priority = Priority.NORMAL
    ) -> AsyncIterator[tuple[int, Any]]:
        clock = asyncio.get_running_loop().time
        ticket = Ticket(arrived=clock(), deadline=clock() + seconds, priority=priority)
        reading: Reading[str] = Reading(ticket, clock, self.flights.leave)
        leading = []
        for index, word in enumerate(words):
            flight = self.flights.joinable(word.encode(), ticket, 1.0)
            is_leader = flight is None
            if flight is None:
                flight = self.flights.prepare(word.encode(), word, 1.0)
                leading.append(flight)
            self.flights.sit(flight, reading, index, is_leader=is_leader)
        if leading:
            self.flights.lead(leading, reading)
        async with aclosing(reading.read()) as pieces:
            async for seat, piece in pieces:
                yield seat.index, piece

    async def answers(self, *words: str, **options: Any) -> list[str]:
        found = [""] * len(words)
        async for index, piece in self.read(*words, **options):
            if isinstance(piece, Exception):
                raise piece
            found[index] += piece
        return found


@pytest.fixture
def table() -> Table:
    return Table()


pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_thousand_equal_requests_cost_one_answer(table):
    answers = await asyncio.gather(*(table.answers("abc") for _ in range(1000)))
    assert answers == [["abc."]] * 1000
    assert table.model.runs == [["abc"]]
    assert len(table.flights) == 0


async def test_a_follower_streams_along_from_the_first_piece(table):
    leader = asyncio.create_task(table.answers("abcdef"))
    await asyncio.sleep(2.5)
    began, times = now(), []
    async for _, piece in table.read("abcdef"):
        times.append((piece, now() - began))
    assert [piece for piece, _ in times] == list("abcdef.")
    assert times[1][1] == 0
    assert times[2][1] == pytest.approx(0.5)
    assert times[6][1] == pytest.approx(4.5)
    await leader


async def test_equal_requests_of_one_call_are_computed_once(table):
    assert await table.answers("ab", "c", "ab") == ["ab.", "c.", "ab."]
    assert table.model.runs == [["ab", "c"]]


async def test_the_next_equal_request_after_the_end_is_computed_again(table):
    assert await table.answers("a") == await table.answers("a") == ["a."]
    assert table.model.runs == [["a"], ["a"]]


async def test_when_the_leader_leaves_the_answer_goes_on_for_the_others(table):
    leader = asyncio.create_task(table.answers("abcd"))
    await asyncio.sleep(1.5)
    follower = asyncio.create_task(table.answers("abcd"))
    await asyncio.sleep(1)
    leader.cancel()
    assert await follower == ["abcd."]
    assert table.model.runs == [["abcd"]]
    assert table.model.landed == {b"abcd": "abcd."}


async def test_when_the_last_one_leaves_the_computation_ends(table):
    readers = [asyncio.create_task(table.answers("abcd")) for _ in range(3)]
    await asyncio.sleep(1.5)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    await asyncio.sleep(0.1)
    assert table.model.cancelled == 1
    assert table.model.landed == {}
    assert len(table.flights) == 0
    assert await table.answers("abcd") == ["abcd."]


async def test_a_failure_is_everybodys(table):
    outcomes = await asyncio.gather(
        *(table.answers("abx") for _ in range(5)), return_exceptions=True
    )
    assert [str(outcome) for outcome in outcomes] == ["x"] * 5
    assert table.model.runs == [["abx"]]
    assert len(table.flights) == 0


async def test_a_follower_does_not_fail_for_another_request_of_the_leader(table):
    leader = asyncio.create_task(table.answers("good", "x"))
    await asyncio.sleep(0.5)
    assert await table.answers("good") == ["good."]
    with pytest.raises(BackendFailure):
        await leader
    assert table.model.runs == [["good", "x"], ["good"]]


async def test_when_the_leader_is_late_a_follower_with_more_time_takes_over(table):
    leader = asyncio.create_task(table.answers("abcdef", seconds=3.5))
    await asyncio.sleep(0.1)
    began = now()
    followers = [asyncio.create_task(table.answers("abcdef", seconds=20 + n)) for n in range(5)]
    with pytest.raises(RequestTimeout):
        await leader
    assert await asyncio.gather(*followers) == [["abcdef."]] * 5
    assert table.model.runs == [["abcdef"], ["abcdef"]]
    assert now() - began == pytest.approx(11, abs=0.2)


async def test_a_refusal_is_tried_once_more_for_whoever_has_more_time(table):
    table.model.is_full = True
    requests = [asyncio.create_task(table.answers("a", seconds=5 + n)) for n in range(10)]
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert len(table.model.runs) == 2


async def test_a_follower_keeps_its_own_deadline(table):
    leader = asyncio.create_task(table.answers("abcdef"))
    await asyncio.sleep(0.1)
    began = now()
    with pytest.raises(RequestTimeout):
        await table.answers("abcdef", seconds=2)
    assert now() - began == pytest.approx(2)
    assert await leader == ["abcdef."]


async def test_what_is_urgent_does_not_wait_for_the_turn_of_what_is_not(table):
    slow = asyncio.create_task(table.answers("abc", priority=Priority.LOW))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(table.answers("abc", priority=Priority.HIGH))
    await asyncio.sleep(1.5)
    late = asyncio.create_task(table.answers("abc", priority=Priority.CRITICAL))
    assert await asyncio.gather(slow, urgent, late) == [["abc."]] * 3
    assert len(table.model.runs) == 2


async def test_a_slow_reader_holds_nobody_up(table):
    release = asyncio.Event()

    async def slow() -> str:
        text = ""
        async for _, piece in table.read("abcdef"):
            text += piece
            await release.wait()
        return text

    reader = asyncio.create_task(slow())
    await asyncio.sleep(0)
    assert await table.answers("abcdef") == ["abcdef."]
    assert now() == pytest.approx(7)
    release.set()
    assert await reader == "abcdef."


async def test_what_is_disowned_goes_on_but_is_neither_joined_nor_kept(table):
    old = asyncio.create_task(table.answers("abc"))
    await asyncio.sleep(1.5)
    table.flights.disown()
    assert await table.answers("abc") == ["abc."]
    assert await old == ["abc."]
    assert table.model.runs == [["abc"], ["abc"]]
    assert list(table.model.landed) == [b"abc"]


async def test_a_mistake_is_raised_to_everybody_and_not_waited_for(table):
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    table.flights._compute = broken
    outcomes = await asyncio.gather(table.answers("a"), table.answers("a"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2


visits = st.lists(
    st.tuples(
        st.sampled_from(["abc", "ab", "abcde", "bx", "x"]),
        st.integers(0, 8),  # comes
        st.one_of(st.none(), st.integers(0, 8)),  # stays so long
        st.integers(1, 20),  # has time
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(visits)
def test_whoever_stays_gets_the_whole_answer_or_a_reason(visits):
    """Whoever stays and has time gets the answer, whatever others do; and nothing stays behind."""

    async def visit(table: Table, word: str, comes: int, stays: int | None, time: int) -> None:
        await asyncio.sleep(comes + 0.25)
        began = now()
        try:
            async with asyncio.timeout(stays):
                assert await table.answers(word, seconds=time) == [word + END]
        except BackendFailure:
            assert "x" in word
        except RequestTimeout:
            assert now() - began >= time - 0.01
        except TimeoutError:
            assert stays is not None

    async def scenario() -> None:
        table = Table()
        await asyncio.gather(*(visit(table, *arguments) for arguments in visits))
        await asyncio.sleep(0.1)
        assert len(table.flights) == 0
        assert not table.flights._tasks
        for key, text in table.model.landed.items():
            assert text == key.decode() + END

    loop = looptime.new_event_loop(_enabled=True)
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
