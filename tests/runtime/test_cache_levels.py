"""The second level: all replicas find what it has, and whatever is wrong with it is a miss."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelserver_runtime.backends.base import SamplingParameters, TaskItem, TokenLogprobs
from modelserver_runtime.cache.codec import DeltaCodec
from modelserver_runtime.cache.exchange import Directives, Exchange, Outcome, exchanging
from modelserver_runtime.cache.items import BytesForm, JsonForm
from modelserver_runtime.cache.memory import MemoryLimits
from modelserver_runtime.cache.response_cache import CacheRules, ResponseCache
from modelserver_runtime.engine.answering import Answerer
from modelserver_runtime.engine.output import Delta, FinishReason, GeneratedToken, TextRules
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import InvalidRequest, NotCached
from modelserver_runtime.telemetry import Telemetry

pytestmark = pytest.mark.looptime

logprobs = st.floats(max_value=0, allow_nan=False)
entries = st.builds(
    TokenLogprobs,
    token_id=st.integers(0, 1000),
    logprob=logprobs,
    alternatives=st.lists(st.tuples(st.integers(0, 9), logprobs), max_size=2).map(tuple),
)
tokens = st.builds(
    GeneratedToken, token_id=st.integers(0, 9), offset=st.integers(0, 9), logprobs=entries
)
# A stored answer is not computed, and so nothing of it was guessed.
OF_COMPUTING = {"accepted_prediction_tokens", "rejected_prediction_tokens"}

inner = st.builds(
    Delta,
    text=st.text(max_size=5),
    completion_tokens=st.integers(0, 99),
    tokens=st.lists(tokens, max_size=2).map(tuple),
    prompt_logprobs=st.lists(entries, max_size=2).map(tuple),
    cached_tokens=st.integers(0, 5),
)
last = st.builds(
    Delta,
    text=st.text(max_size=5),
    completion_tokens=st.integers(0, 99),
    finish_reason=st.sampled_from(FinishReason),
)


@given(st.lists(inner, max_size=4), last)
def test_an_answer_comes_back_as_it_was(deltas, end):
    answer = (*deltas, end)
    codec = DeltaCodec()
    assert codec.decode(codec.encode(answer)) == answer
    assert codec.size_of(answer) >= 100 * len(answer)


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (
            Delta,
            "text completion_tokens tokens prompt_logprobs finish_reason cached_tokens",
        ),
        (GeneratedToken, "token_id offset logprobs"),
        (TokenLogprobs, "token_id logprob alternatives"),
    ],
)
def test_every_field_of_an_answer_is_stored(kind, known):
    assert {field.name for field in fields(kind)} - OF_COMPUTING == set(known.split())


def test_what_was_guessed_while_computing_is_nothing_of_a_stored_answer():
    codec = DeltaCodec()
    stored = Delta(text="a", completion_tokens=1, finish_reason=FinishReason.STOP)
    computed = replace(stored, accepted_prediction_tokens=1, rejected_prediction_tokens=2)
    assert codec.decode(codec.encode((computed,))) == (stored,)


@pytest.mark.parametrize(
    ("value", "is_kept"),
    [
        ({"label": "a", "score": 0.1}, True),
        ([1, None, "ü", True], True),
        ((1, 2), False),
        ({1: "a"}, False),
        (math.nan, False),
        ([object()], False),
        (b"bytes", False),
    ],
)
def test_json_answers_are_kept_only_if_they_come_back_the_same(value, is_kept):
    content = JsonForm().encode(value)
    assert (content is not None) == is_kept
    if content is not None:
        assert JsonForm().decode(content) == value


def test_vectors_are_kept_as_they_are():
    assert BytesForm().decode(BytesForm().encode(b"\x00\x01") or b"") == b"\x00\x01"


class Store:
    """Redis as a dictionary that keeps everything; unreachable at will."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.is_reachable = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None] | None:
        found = [self.values.get(key) for key in keys]
        await self.may_answer.wait()
        return found if self.is_reachable else None

    async def put(self, key: str, value: bytes, _: float | None = None) -> bool | None:
        if not self.is_reachable:
            return None
        self.values[key] = value
        return True

    async def put_if_absent(self, key: str, value: bytes) -> bool | None:
        if not self.is_reachable:
            return None
        return self.values.setdefault(key, value) is value

    @property
    def answers(self) -> list[str]:
        return [key for key in self.values if key.startswith("cache:answer:")]


class Letters:
    """An engine that spells the first token's letter; every delta takes a second."""

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.backend: Any = None

    @asynccontextmanager
    async def open(self, requests: Sequence[GenerationRequest], _: Ticket) -> AsyncIterator[Any]:
        async with aclosing(self._deltas(requests)) as deltas:
            yield deltas

    async def _deltas(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Any]:
        for index, request in enumerate(requests):
            self.computed.append(request.prompt_token_ids[0])
            for count in (1, 2):
                await asyncio.sleep(1)
                text = chr(96 + request.prompt_token_ids[0])
                reason = FinishReason.STOP if count == 2 else None
                yield index, Delta(text=text, completion_tokens=count, finish_reason=reason)


def now() -> float:
    return asyncio.get_running_loop().time()


class Replica:
    """A cache with an engine behind it, as one process has them."""

    def __init__(self, store: Store | None, *, identity: str = "files", **rules: Any) -> None:
        limits = MemoryLimits(max_entries=100, max_bytes=100_000, ttl_seconds=60)
        self.cache = ResponseCache(
            CacheRules(limits=limits, **rules), clock=now, wall_clock=now, store=store
        )
        self.engine = Letters()
        self.telemetry = Telemetry().of("tiny", "1")
        self.load(identity)

    def load(self, identity: str) -> None:
        self.layer = self.cache.layer("tiny", identity, self.telemetry)
        self.generator = self.layer.generator(self.engine)

    async def ask(self, *tokens: int, tenant: str = "", **directives: Any) -> Outcome | None:
        """Where the answer came from; the answer itself is checked."""
        ticket = Ticket(arrived=now(), deadline=now() + 50, tenant=tenant)
        requests = [a_request(token) for token in tokens]
        texts = [""] * len(tokens)
        with exchanging(Exchange(Directives(**directives))) as exchange:
            async with self.generator.open(requests, ticket) as deltas:
                async for index, delta in deltas:
                    texts[index] += delta.text
        assert texts == [2 * chr(96 + token) for token in tokens]
        return exchange.outcome


def a_request(token: int) -> GenerationRequest:
    return GenerationRequest(
        prompt_token_ids=(token,),
        sampling=SamplingParameters(max_tokens=5, temperature=0.0),
        rules=TextRules(),
    )


@pytest.fixture
async def store() -> Store:
    return Store()


class Replicas:
    """Two of one store; made when a test unpacks them, since only then its time has begun."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: list[Replica] = []

    def __iter__(self) -> Iterator[Replica]:
        self._made = [Replica(self._store), Replica(self._store)]
        return iter(self._made)

    async def close(self) -> None:
        for replica in self._made:
            await replica.cache.close()


@pytest.fixture
async def replicas(store) -> AsyncIterator[Replicas]:
    replicas = Replicas(store)
    yield replicas
    await replicas.close()


async def test_replicas_share_answers(replicas, store):
    one, other = replicas
    assert await one.ask(1) is Outcome.MISS
    assert await other.ask(1) is Outcome.HIT
    assert other.engine.computed == []
    assert len(store.answers) == 1


async def test_what_came_from_the_second_level_is_in_memory_then(replicas, store):
    one, other = replicas
    await one.ask(1)
    await other.ask(1)
    store.is_reachable = False
    assert await other.ask(1) is Outcome.HIT


async def test_only_what_neither_level_has_is_computed(replicas):
    one, other = replicas
    await one.ask(1, 2)
    await other.ask(3)
    assert await other.ask(3, 1, 4) is Outcome.MISS
    assert other.engine.computed == [3, 4]


async def test_a_replica_with_other_files_finds_nothing(store):
    one, other = Replica(store), Replica(store, identity="other files")
    await one.ask(1)
    assert await other.ask(1) is Outcome.MISS
    await one.cache.close()
    await other.cache.close()


async def test_when_another_version_of_the_files_is_loaded_memory_is_emptied():
    replica = Replica(None)
    await replica.ask(1)
    replica.load("files")
    assert replica.cache.occupancy.entries == 1
    replica.load("new files")
    assert replica.cache.occupancy.entries == 0
    assert await replica.ask(1) is Outcome.MISS


async def test_an_unreachable_second_level_is_only_slower(replicas, store):
    one, _ = replicas
    store.is_reachable = False
    assert await one.ask(1) is Outcome.MISS
    assert await one.ask(1) is Outcome.HIT
    store.is_reachable = True
    assert store.answers == []
    assert await one.ask(2) is Outcome.MISS
    assert len(store.answers) == 1


def cut(value: bytes) -> bytes:
    return value[:-1]


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


def older_than_it_is(value: bytes) -> bytes:
    return value[:21] + bytes(8) + value[29:]


def of_another_version(value: bytes) -> bytes:
    return b"MSRC0" + value[5:]


@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        flipped,
        older_than_it_is,
        of_another_version,
        lambda _: b"",
        lambda _: b"short",
        lambda _: b'{"of": "somebody else"}' * 9,
    ],
)
async def test_a_value_that_is_not_exactly_what_was_written_is_a_miss(replicas, store, spoil):
    one, other = replicas
    await one.ask(1)
    [key] = store.answers
    store.values[key] = spoil(store.values[key])
    assert await other.ask(1) is Outcome.MISS
    assert other.engine.computed == [1]


async def test_a_value_of_another_request_is_a_miss(replicas, store):
    one, other = replicas
    await one.ask(1)
    [first] = store.answers
    await one.ask(2)
    [second] = set(store.answers) - {first}
    store.values[first] = store.values[second]
    assert await other.ask(1) is Outcome.MISS


@given(st.binary(max_size=80))
def test_bytes_that_nobody_has_written_do_no_harm(content):
    with pytest.raises((ValueError, TypeError, LookupError)):
        DeltaCodec().decode(content)


async def test_what_is_too_old_in_the_second_level_is_a_miss(replicas):
    one, other = replicas
    await one.ask(1)
    await asyncio.sleep(30)
    assert await other.ask(1, max_age_seconds=20.0) is Outcome.MISS
    assert await other.ask(2) is Outcome.MISS
    await asyncio.sleep(31)
    assert await one.ask(2, max_age_seconds=20.0) is Outcome.MISS
    await asyncio.sleep(61)
    assert await one.ask(1) is Outcome.MISS


async def test_an_answer_is_no_younger_for_having_moved(replicas):
    one, other = replicas
    await one.ask(1)
    await asyncio.sleep(40)
    assert await other.ask(1) is Outcome.HIT
    assert await other.ask(1, max_age_seconds=30.0) is Outcome.MISS
    await asyncio.sleep(59)
    assert await other.ask(1) is Outcome.HIT


async def test_only_if_cached_asks_the_second_level_too(replicas):
    one, other = replicas
    await one.ask(1)
    assert await other.ask(1, only_if_cached=True) is Outcome.HIT
    with pytest.raises(NotCached):
        await other.ask(2, only_if_cached=True)
    assert other.engine.computed == []


async def test_invalidating_reaches_every_replica_and_the_second_level(replicas, store):
    one, other = replicas
    await one.ask(1)
    await other.ask(1)
    outcome = await one.cache.invalidate("tiny")
    assert (outcome.entries, outcome.is_shared) == (1, True)
    await asyncio.sleep(1.5)
    assert await other.ask(1) is Outcome.MISS
    assert await one.ask(1) is Outcome.HIT
    assert (one.engine.computed, other.engine.computed) == ([1], [1])


async def test_an_invalidation_without_the_second_level_is_made_up_for(replicas, store):
    one, other = replicas
    await one.ask(1)
    store.is_reachable = False
    outcome = await one.cache.invalidate("tiny")
    assert not outcome.is_shared
    store.is_reachable = True
    # Before the other replicas are told, what they share is not trusted here.
    assert await one.ask(1) is Outcome.MISS
    await asyncio.sleep(2.5)
    assert await other.ask(1) is Outcome.MISS


async def test_what_began_before_an_invalidation_is_not_kept(replicas, store):
    one, other = replicas
    answer = asyncio.create_task(one.ask(1))
    await asyncio.sleep(1.5)
    await one.cache.invalidate("tiny")
    assert await answer is Outcome.MISS
    assert await one.ask(1) is Outcome.MISS
    assert await other.ask(1) is Outcome.HIT
    assert one.engine.computed == [1, 1]


async def test_what_was_read_before_an_invalidation_is_not_kept(replicas, store):
    one, other = replicas
    await other.ask(1)
    store.may_answer.clear()
    answer = asyncio.create_task(one.ask(1))
    await asyncio.sleep(0.01)
    await one.cache.invalidate("tiny")
    store.may_answer.set()
    await answer
    assert one.engine.computed == [1]


async def test_a_lost_epoch_does_not_bring_back_what_was_forgotten(replicas, store):
    one, other = replicas
    await one.ask(1)
    await one.cache.invalidate("tiny")
    del store.values["cache:epoch:tiny"]
    assert await other.ask(1) is Outcome.MISS


async def test_tenants_do_not_see_each_others_answers_unless_they_share():
    own, shared = Replica(None), Replica(None, is_shared=True)
    outcomes = [await own.ask(1, tenant=tenant) for tenant in ("a", "b", "a")]
    assert outcomes == [Outcome.MISS, Outcome.MISS, Outcome.HIT]
    outcomes = [await shared.ask(1, tenant=tenant) for tenant in ("a", "b")]
    assert outcomes == [Outcome.MISS, Outcome.HIT]


async def test_equal_requests_of_two_tenants_do_not_share_a_flight():
    replica = Replica(None)
    outcomes = await asyncio.gather(replica.ask(1, tenant="a"), replica.ask(1, tenant="b"))
    assert outcomes == [Outcome.MISS, Outcome.MISS]


async def test_no_cache_does_not_join_what_others_may_get_from_the_second_level(replicas, store):
    one, _ = replicas
    store.may_answer.clear()
    waiting = asyncio.create_task(one.ask(1))
    await asyncio.sleep(0)
    fresh = asyncio.create_task(one.ask(1, max_age_seconds=0.0))
    await asyncio.sleep(0)
    store.may_answer.set()
    assert await asyncio.gather(waiting, fresh) == [Outcome.MISS, Outcome.MISS]
    assert one.engine.computed == [1, 1]


class Squares:
    """A batch engine: the square of each item; 13 fails."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def run(self, items: Sequence[TaskItem], _: Ticket) -> list[Any]:
        numbers = [item.inputs for item in items]
        self.batches.append(numbers)
        await asyncio.sleep(1)
        return [InvalidRequest("unlucky") if n == 13 else {"square": n * n} for n in numbers]


async def squares(items: Answerer[TaskItem], *numbers: int) -> list[Any]:
    ticket = Ticket(arrived=now(), deadline=now() + 50)
    return await items.run([TaskItem(inputs=number) for number in numbers], ticket)


async def test_items_are_known_one_by_one_and_a_failed_one_fails_alone():
    replica, engine = Replica(None), Squares()
    items = replica.layer.tasks(engine)
    first, second = await asyncio.gather(squares(items, 1, 13, 2), squares(items, 2, 3))
    assert first[0] == {"square": 1}
    assert isinstance(first[1], InvalidRequest)
    assert (first[2], second) == ({"square": 4}, [{"square": 4}, {"square": 9}])
    assert engine.batches == [[1, 13, 2], [3]]
    again = await squares(items, 13, 3, 3, 1)
    assert isinstance(again[0], InvalidRequest)
    assert again[1:] == [{"square": 9}, {"square": 9}, {"square": 1}]
    assert engine.batches[2:] == [[13]]


async def test_whoever_gets_an_answer_may_change_it():
    items = Replica(None).layer.tasks(Squares())
    for _ in range(3):
        [answer] = await squares(items, 5)
        assert answer == {"square": 25}
        answer["square"] = "mine"


class Draws:
    """A batch engine that answers differently each time."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self, items: Sequence[Any], _: Ticket) -> list[Any]:
        self.count += len(items)
        return [{"drawn": self.count} for _ in items]


@pytest.mark.parametrize(
    ("samples", "parameters", "is_kept"),
    [
        (False, {}, True),
        (False, {"do_sample": False}, True),
        (False, {"do_sample": True}, False),
        (True, {}, False),
        (True, {"do_sample": False}, True),
    ],
)
async def test_answers_that_are_drawn_are_not_kept(samples, parameters, is_kept):
    replica, engine = Replica(None), Draws()
    layer = replica.cache.layer("tiny", "files", replica.telemetry, samples=samples)
    item = TaskItem(inputs="a", parameters=parameters)
    items = layer.tasks(engine)
    answers = [await items.run([item], Ticket(arrived=0, deadline=9)) for _ in range(2)]
    assert (answers[0] == answers[1]) == is_kept


async def test_items_that_have_no_key_are_computed_each_time():
    replica, engine = Replica(None), Draws()
    items = replica.layer.tasks(engine)
    item = TaskItem(inputs=object())
    with exchanging(Exchange()) as exchange:
        answers = [await items.run([item], Ticket(arrived=0, deadline=9)) for _ in range(2)]
    assert answers[0] != answers[1]
    assert exchange.outcome is Outcome.BYPASS
