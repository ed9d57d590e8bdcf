"""The benchmarks of the gateway count whole answers, and what they are held against."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest

from bench import gateway, prefix_affinity
from bench.passing import cluster, load, ways
from bench.passing.caching_replica import BLOCK_TOKENS, PrefixCache
from bench.passing.ceiling import found_at_longest_prefix, found_without_limit
from bench.passing.conversations import Event
from bench.passing.measurement import CONCURRENCIES

NAMES = ("p50_milliseconds", "p99_milliseconds", "requests_per_second", "requests_per_cpu_second")
STREAMS = ("streamed_tokens_per_second", "cpu_microseconds_per_streamed_token", "streams")


def a_round(**more):
    found = {"round": 1}
    for way in gateway.WAYS:
        found[f"resident_megabytes_{way}"] = 100.0
        for concurrency in CONCURRENCIES:
            end = f"c{concurrency}_{way}"
            found |= {f"{name}_{end}": 1.0 for name in (*NAMES, *STREAMS)}
            found |= {f"failed_requests_{end}": 0, f"failed_streams_{end}": 0}
    return found | more


# -- the load ------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(*pieces, closes=False):
    """Answers each request with these pieces, one write each."""

    async def answer(reader, writer):
        while await reader.read(65536):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if closes:
                writer.close()
                return
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


async def count(address, words=1, requests=6, connections=2):
    question = load.Question(content=b"GET / HTTP/1.1\r\n\r\n", words=words)
    more = load.so_many(requests)
    return await load.ask(address, question, more, connections=connections)


HEAD = b"HTTP/1.1 200 OK\r\nX-Zero: 0\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + b"Content-Length: 10\r\n\r\n", b"word ", b"....."],
        [HEAD + b"content-length: 5\r\n\r\nword "],
        [HEAD + b"transfer-encoding: chunked\r\n\r\n", b"5\r\nword \r\n", b"0\r\n\r\n"],
    ],
)
async def test_each_request_is_answered_once_however_the_answer_comes(pieces):
    async with answering(*pieces) as address:
        tally = await count(address)
    assert (tally.answers, tally.words, tally.failed) == (6, 6, 0)
    assert all(seconds > 0 for seconds in tally.seconds)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"], "503"),
        ([HEAD + b"content-length: 5\r\n\r\n....."], "0 words"),
        ([HEAD + b"content-length: 5\r\n\r\nwo"], "broke"),
    ],
)
async def test_what_is_no_whole_answer_has_failed_and_the_next_is_asked(pieces, reason):
    async with answering(*pieces, closes=True) as address:
        tally = await count(address)
    assert (tally.answers, tally.failed) == (0, 6)
    assert reason in tally.reason


async def test_nobody_there_is_a_failure():
    async with answering(HEAD) as address:
        pass
    assert (await count(address)).failed == 6


# -- what is asked -------------------------------------------------------------------------------


@pytest.mark.slow  # starts a process
async def test_the_upstream_answers_whole_and_in_streams():
    async with ways.an_upstream() as way:
        question = load.chat(way.address, stream_of=7)
        streams = await load.ask(way.address, question, load.so_many(4), connections=2)
        whole = await load.ask(way.address, load.chat(way.address), load.so_many(4), connections=2)
    assert (streams.answers, streams.words, streams.failed) == (4, 28, 0)
    assert (whole.answers, whole.words, whole.failed) == (4, 4, 0)


async def test_the_cluster_has_one_server_with_all_pods():
    async with cluster.a_cluster([81, 82]) as url, httpx.AsyncClient(base_url=url) as client:
        servers = (await client.get("/apis/x/modelservers?limit=5")).json()
        slices = (await client.get("/apis/x/endpointslices")).json()
    assert [one["metadata"]["name"] for one in servers["items"]] == [cluster.NAME]
    assert [one["ports"][0]["port"] for one in slices["items"]] == [81, 82]


def test_envoy_asks_all_upstreams_and_bounds_nothing():
    made = ways._envoy_configuration(80, [81, 82])
    (one,) = made["static_resources"]["clusters"]
    endpoints = one["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert "82" in json.dumps(endpoints)
    assert one["circuit_breakers"]["thresholds"][0]["max_requests"] > CONCURRENCIES[-1]


# -- figures -------------------------------------------------------------------------------------


def test_what_is_added_is_the_difference_within_a_round():
    added = {"p50_milliseconds_c1_ours": 1.5}
    slow = {"p50_milliseconds_c1_ours": 9.3, "p50_milliseconds_c1_direct": 9.0}
    figures = gateway.figures_of([a_round(**added), a_round(**slow), a_round(**added)])
    assert figures["gateway_p50_added_milliseconds_c1"] == 0.5


def test_ratios_are_of_requests_per_core():
    per_core = {"requests_per_cpu_second_c32_ours": 4000.0}
    per_core |= {"requests_per_cpu_second_c32_litellm": 500.0}
    per_core |= {"requests_per_cpu_second_c32_envoy": 16000.0}
    figures = gateway.figures_of([a_round(**per_core)])
    assert (figures["ratio_to_litellm"], figures["ratio_to_envoy"]) == (8.0, 0.25)


def test_failures_of_all_rounds_are_counted_and_miss_the_target():
    failed = {"failed_streams_c1000_ours": 1, "failed_requests_c32_ours": 2}
    figures = gateway.figures_of([a_round(**failed), a_round(**failed)])
    assert (figures["failed_streams_c1000"], figures["failed_requests"]) == (2, 6)
    assert not gateway.targets_of(figures)["failed_streams_c1000"].holds


def test_growth_of_memory_is_from_the_first_round_to_the_last():
    rounds = [a_round(resident_megabytes_ours=value) for value in (90.0, 120.0, 97.0)]
    assert gateway.figures_of(rounds)["gateway_memory_growth_megabytes"] == 7.0


def a_round_of_affinity(**hits):
    return {"round": 1} | {
        f"prefix_hit_percent_{case}_{way}": hit
        for case in prefix_affinity.CASES
        for way, hit in hits.items()
    }


def test_hits_are_held_against_round_robin_and_against_what_can_be_found():
    found = a_round_of_affinity(affinity=76.0, least_requests=30.0, round_robin=25.0, ceiling=80.0)
    figures = prefix_affinity.figures_of([found])
    assert figures["prefix_hit_ratio_to_round_robin_chats_quarter"] == 3.04
    assert figures["ceiling_ratio_to_round_robin_chats_quarter"] == 3.2
    assert figures["share_of_ceiling_percent_chats_quarter"] == 95
    assert all(target.holds for target in prefix_affinity.targets_of(figures).values())


# -- what could be found -------------------------------------------------------------------------


def asked(conversation, tokens):
    return Event(conversation=conversation, tokens=tokens, is_answer=False)


def answered(conversation, tokens):
    return Event(conversation=conversation, tokens=tokens, is_answer=True)


def test_the_ceiling_is_what_was_asked_or_answered_before():
    question, answer, new = words("q", 1), words("a", 1), words("n", 2)
    found = found_without_limit(
        [
            asked("a", question),
            answered("a", [*question, *answer]),
            asked("a", [*question, *answer, *new]),
        ]
    )
    assert (found.cached_tokens, found.prompt_tokens) == (2 * BLOCK_TOKENS, 5 * BLOCK_TOKENS)


def test_whoever_goes_where_the_longest_prefix_lies_takes_the_idlest_for_a_new_one():
    first, second = words("a", 2), words("b", 2)
    events = [asked("a", first), asked("b", second), answered("a", first), answered("b", second)]
    again = [asked("a", first), asked("b", second)]
    found = found_at_longest_prefix([*events, *again], replicas=2, blocks=2)
    assert found.cached_tokens == 4 * BLOCK_TOKENS
    assert found_at_longest_prefix([*events, *again], replicas=1, blocks=2).cached_tokens == 0


# -- the stand-in's cache ------------------------------------------------------------------------


def words(prefix, blocks):
    return [f"{prefix}{number}" for number in range(blocks * BLOCK_TOKENS)]


def test_a_prefix_is_cached_in_whole_blocks():
    cache = PrefixCache(100)
    prompt = words("a", 2)
    assert cache.cached(prompt) == 0
    cache.keep([*prompt, "and", "more"])
    assert cache.cached([*prompt, "and", "more"]) == 2 * BLOCK_TOKENS
    assert cache.cached([*prompt[:BLOCK_TOKENS], "other", *prompt]) == BLOCK_TOKENS
    assert cache.cached(["other", *prompt]) == 0


def test_what_was_used_longest_ago_goes_from_its_end():
    cache = PrefixCache(3)
    first, second = words("a", 2), words("b", 2)
    cache.keep(first)
    cache.keep(second)
    assert cache.cached(second) == 2 * BLOCK_TOKENS
    assert cache.cached(first) == BLOCK_TOKENS
