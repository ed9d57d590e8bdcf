"""One round: every way at every concurrency, with whole answers and with streams."""

import asyncio
import os
from collections.abc import Mapping, Sequence

from bench.fronting.parts import Round, Say
from bench.fronting.serving import ServerFailed
from bench.passing.load import Question, Tally, ask, chat, until
from bench.passing.ways import Way
from bench.serving.processes import cpu_seconds, resident_megabytes

CONCURRENCIES = (1, 32, 256, 1000)
# So long requests begin, of each kind at each concurrency; what has begun is waited for.
SECONDS = 2.0
WORDS_OF_STREAM = 40
_SETTLE_SECONDS = 0.2
# What the kernel counts CPU time in.
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


async def measured(ways: Sequence[Way], number: int, say: Say) -> Round:
    """The ways take turns at each concurrency, in another order each round."""
    found: Round = {"round": number}
    shift = number % len(ways)
    for concurrency in CONCURRENCIES:
        for way in [*ways[shift:], *ways[:shift]]:
            found |= await _whole_answers(way, concurrency)
            found |= await _streams(way, concurrency)
        say(f"round {number}: {concurrency} at a time; {_line(found, ways, concurrency)}")
    for way in ways:
        found[f"resident_megabytes_{way.name}"] = resident_megabytes(way.pid)
    return found


async def _whole_answers(way: Way, concurrency: int) -> Round:
    tally, spent = await _asked(way, chat(way.address), concurrency)
    return _named(
        way,
        concurrency,
        {
            "p50_milliseconds": tally.milliseconds(50),
            "p99_milliseconds": tally.milliseconds(99),
            "requests_per_second": tally.answers / tally.elapsed,
            "requests_per_cpu_second": tally.answers / spent,
            "failed_requests": tally.failed,
            **_reason(tally),
        },
    )


async def _streams(way: Way, concurrency: int) -> Round:
    question = chat(way.address, stream_of=WORDS_OF_STREAM)
    tally, spent = await _asked(way, question, concurrency)
    return _named(
        way,
        concurrency,
        {
            "streamed_tokens_per_second": tally.words / tally.elapsed,
            "cpu_microseconds_per_streamed_token": 1e6 * spent / tally.words,
            "streams": tally.answers,
            "failed_streams": tally.failed,
            **_reason(tally),
        },
    )


async def _asked(way: Way, question: Question, concurrency: int) -> tuple[Tally, float]:
    """What came, and the CPU time in seconds that the way took for it."""
    await asyncio.sleep(_SETTLE_SECONDS)
    cpu = cpu_seconds(way.pid)
    tally = await ask(way.address, question, until(SECONDS), connections=concurrency)
    if not tally.answers:
        raise ServerFailed(f"{way.name}, {concurrency} at a time: {tally.reason}")
    return tally, max(_TICK_SECONDS, cpu_seconds(way.pid) - cpu)


def _named(way: Way, concurrency: int, values: Mapping[str, object]) -> Round:
    return {f"{name}_c{concurrency}_{way.name}": value for name, value in values.items()}


def _reason(tally: Tally) -> dict[str, str]:
    return {"failure": tally.reason} if tally.failed else {}


def _line(found: Round, ways: Sequence[Way], concurrency: int) -> str:
    return ", ".join(
        f"{way.name} {found[f'requests_per_second_c{concurrency}_{way.name}']:,.0f}/s"
        for way in ways
    )
