"""What `bench.engine` asks, and how figures come out of what it measured."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bench.generating import figures, gate, prefixes, vectors
from bench.generating.asking import ask
from bench.generating.engines import LITSERVE, LLAMA_CPP, VLLM, VLLM_ALL_CORES, choices
from bench.generating.limits import PROMPT_ROWS, Limits, Shape, best_of
from bench.generating.measurement import ARRIVALS, Measured, Objective, percentile
from bench.generating.text import Plan
from bench.generating.workload import Lengths, Question, arriving, questions
from bench.serving import words
from bench.serving.answers import Answer
from bench.serving.client import Endpoint
from bench.serving.engines import EngineFailed
from bench.serving.measurement import Usage
from bench.serving.processes import Quietness

LENGTHS = Lengths(prompt=(16, 64), output=(4, 9))
SEED = 7


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 20))
def test_questions_have_the_lengths_they_say(seed, count):
    for it in questions(count, seed=seed, lengths=LENGTHS):
        assert len(words.chat_token_ids(it.message)) == it.prompt_tokens
        assert 16 <= it.prompt_tokens <= 64
        assert 4 <= it.output_tokens <= 9


def test_every_engine_and_run_is_asked_the_same_and_every_round_something_else():
    plan = Plan(rounds=2, concurrency=[1, 8], lengths=LENGTHS)
    for load in plan.loads:
        assert plan.questions(load, 1) == plan.questions(load, 1)
        first = {it.message for it in plan.questions(load, 1)}
        assert first.isdisjoint(it.message for it in plan.questions(load, 2))


def test_a_measurement_has_several_requests_for_each_at_a_time():
    plan = Plan(rounds=1, concurrency=[1, 8], requests=3, least_requests=6, arrivals=5)
    counts = {load: len(plan.questions(load, 1)) for load in plan.loads}
    assert counts == {"c1": 6, "c8": 24, ARRIVALS: 5}


def test_no_arrivals_without_a_rate():
    assert Plan(rounds=1, concurrency=[4], rate=0).loads == ["c4"]


def test_arrivals_come_in_order_at_about_their_rate():
    found = arriving(2000, rate=4.0, seed=SEED, lengths=Lengths(prompt=(16, 16), output=(4, 4)))
    times = [it.at_seconds for it in found]
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == pytest.approx(2000 / 4, rel=0.1)


# ------------------------------------------------------------------------------------- asking


async def serve(handler: Callable, work: Callable):
    application = web.Application()
    application.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        return await work(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def whole(text: str) -> web.Response:
    return web.json_response({"choices": [{"message": {"content": text}}]})


async def test_each_question_says_how_long_its_answer_is_and_what_the_engine_wants():
    seen = []

    async def handler(request):
        body = await request.json()
        seen.append((body["max_tokens"], body["stream"], body["ignore_eos"]))
        return whole("")

    asked = questions(3, seed=SEED, lengths=LENGTHS)

    async def work(url):
        endpoint = Endpoint(url=url, model="m", streams=False, more={"ignore_eos": True})
        return await ask(endpoint, asked, concurrency=1, limit_seconds=20, reader=words.token_ids)

    await serve(handler, work)
    assert seen == [(it.output_tokens, False, True) for it in asked]


async def test_an_answer_in_one_piece_is_read_with_one_arrival():
    text = " ".join(words.vocabulary()[10:13])

    async def handler(_):
        return whole(text)

    async def work(url):
        endpoint = Endpoint(url=url, model="m", streams=False)
        asked = questions(1, seed=SEED, lengths=LENGTHS)
        return await ask(endpoint, asked, concurrency=1, limit_seconds=20, reader=words.token_ids)

    [answer] = await serve(handler, work)
    assert answer.token_ids == (10, 11, 12)
    assert len(answer.arrivals) == 1
    assert answer.first_token_seconds == answer.total_seconds > 0


async def test_arrivals_do_not_wait_for_answers():
    """Nobody is answered before all have come."""
    everybody = asyncio.Barrier(3)

    async def handler(_):
        async with everybody:
            return whole("")

    asked = [
        Question(message=str(n), prompt_tokens=16, output_tokens=1, at_seconds=0.01 * n)
        for n in range(3)
    ]

    async def work(url):
        endpoint = Endpoint(url=url, model="m", streams=False)
        return await ask(endpoint, asked, concurrency=0, limit_seconds=20, reader=words.token_ids)

    assert [it.failure for it in await serve(handler, work)] == ["", "", ""]


# ------------------------------------------------------------------------------------- figures


def usage(seconds: float, *, others: float = 0.0) -> Usage:
    return Usage(
        seconds=seconds,
        engine_cpu_seconds=2.0,
        client_cpu_seconds=0.1,
        others_busy_cores=others,
        before=Quietness(load_average=0.0, busy_cores=0.0, waited_seconds=1.0),
    )


def answer(*arrivals: float, tokens: int = 4, failure: str = "") -> Answer:
    return Answer(
        message="m",
        token_ids=tuple(range(tokens)),
        first_token_seconds=arrivals[0] if arrivals else 0.0,
        total_seconds=arrivals[-1] if arrivals else 0.0,
        arrivals=arrivals,
        failure=failure,
    )


def measured(engine, *answers, load="c8", seconds=2.0, others=0.0, number=1, streams=True):
    return Measured(
        model="llama",
        engine=engine,
        load=load,
        round=number,
        questions=[Question(message="m", prompt_tokens=20, output_tokens=4)] * len(answers),
        answers=answers,
        usage=usage(seconds, others=others),
        streams=streams,
    )


def test_numbers_of_a_measurement():
    one = measured("ours", answer(0.2, 0.3, 0.5), answer(0.4, 0.5, 0.6), seconds=2.0)
    numbers = one.numbers(Objective(first_token_seconds=0.3, token_seconds=1.0))
    assert numbers == pytest.approx(
        {
            "tokens_per_second": 4,
            "total_tokens_per_second": 24,
            "first_token_milliseconds_p50": 300,
            "first_token_milliseconds_p99": 398,
            "between_pieces_milliseconds_p50": 100,
            "between_pieces_milliseconds_p99": 197,
            "goodput_requests_per_second": 0.5,
            "cpu_seconds_per_1000_tokens": 250,
        }
    )


def test_without_a_stream_nothing_is_said_about_the_time_between_tokens():
    numbers = measured("litserve", answer(0.5), streams=False).numbers(Objective())
    assert not any("between" in name for name in numbers)


def test_what_failed_is_counted_and_gives_neither_tokens_nor_prompts():
    one = measured("ours", answer(0.5), answer(failure="503"))
    assert (one.output_tokens, one.prompt_tokens, one.failures) == (4, 20, ["503"])
    assert figures.failures([one]) == {"failed_requests_ours": 1}


def test_an_engine_that_answered_nothing_has_no_numbers():
    assert measured("ours", answer(failure="503")).numbers(Objective()) == {}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.sampled_from([50, 99]))
def test_percentiles_lie_within_the_values(values, percent):
    found = percentile(values, percent)
    assert min(values) - 1e-6 <= found <= max(values) + 1e-6


def speeds(**tokens_per_second):
    return {("tokens_per_second", "c8", name): it for name, it in tokens_per_second.items()}


def test_ours_is_compared_with_the_better_vllm():
    found = speeds(ours=300, **{VLLM: 100, VLLM_ALL_CORES: 150})
    assert figures.ratios(found) == {"ratio_to_vllm_cpu_c8": 2.0}


def test_no_ratio_without_both_sides():
    assert figures.ratios(speeds(ours=300)) == {}
    assert figures.ratios(speeds(**{LITSERVE: 300})) == {}


def test_every_ratio_has_its_load_in_its_name_and_engines_that_exist():
    for name, (load, peers) in figures.RATIOS.items():
        assert name.endswith(f"_{load}")
        assert set(peers) <= set(choices())
    assert "ratio_to_llama_cpp_c32" in figures.RATIOS
    assert figures.RATIOS["ratio_to_llama_cpp_c1"][1] == (LLAMA_CPP,)


def test_disturbed_measurements_count_only_where_there_is_no_other():
    quiet = measured("ours", answer(0.1, 0.2), seconds=1.0)
    busy = measured("ours", answer(0.1, 0.2), seconds=8.0, others=1.0, number=2)
    only = measured("litserve", answer(0.1, 0.2), seconds=2.0, others=1.0)
    found = figures.medians([quiet, busy, only], Objective())
    assert found["tokens_per_second", "c8", "ours"] == 4
    assert found["tokens_per_second", "c8", "litserve"] == 2


# -------------------------------------------------------------------------------------- limits

SHAPE = Shape(layers=((10, 20), (20, 10)), count=5, output=(10, 100))


def test_alone_all_weights_are_read_for_each_token():
    """2,000 parameters in layers, 1,000 in the output, two bytes each."""
    assert SHAPE.bytes_per_token == 6000
    limits = Limits(bytes_per_second=60_000, flops={8: 1.0})
    assert limits.tokens_per_second_alone(SHAPE) == 10


def test_prompts_and_steps_are_computed_at_their_own_rates():
    """Two prompts of 50 give two tokens; six more are steps of eight rows."""
    limits = Limits(bytes_per_second=1, flops={8: 100.0, PROMPT_ROWS: 1000.0})
    seconds = limits.seconds(SHAPE, prompts=2, prompt_tokens=100, output_tokens=8, rows=8)
    prompts = 2 * (100 * 2000 + 2 * 1000) / 1000
    steps = 2 * 6 * 3000 / 100
    assert seconds == pytest.approx(prompts + steps)


def test_limits_are_the_best_that_was_reached():
    found = best_of(
        [
            Limits(bytes_per_second=5, flops={8: 1.0, 32: 9.0}),
            Limits(bytes_per_second=3, flops={8: 2.0, 32: 8.0}),
        ]
    )
    assert found == Limits(bytes_per_second=5, flops={8: 2.0, 32: 9.0})


def test_fractions_are_of_the_limits_of_the_same_load():
    limits = Limits(bytes_per_second=60_000, flops={8: 1e4, PROMPT_ROWS: 1e4})
    alone = measured("ours", answer(0.1, 0.2), load="c1", seconds=0.5)
    eight = measured("ours", answer(0.1, 0.2), seconds=100.0)
    peer = measured("litserve", answer(0.1, 0.2), seconds=1.0)
    found = figures.limit_figures([alone, eight, peer], Objective(), limits, SHAPE)
    assert found["fraction_of_bandwidth_bound_c1"] == pytest.approx(8 / 10)
    needed = 2 * (20 * 2000 + 1000 + 3 * 3000) / 1e4
    assert found["fraction_of_gemm_bound_c8"] == pytest.approx(needed / 100, rel=1e-3)


# ------------------------------------------------------------------- gate, prefixes, embeddings


def judgement(right: int) -> gate.Judgement:
    return gate.Judgement(answers=8, equal=4, tokens=1000, right=right)


def test_an_engine_that_says_something_else_is_not_timed():
    gate.demand_right({"ours": judgement(1000), "other": judgement(995)})
    with pytest.raises(EngineFailed, match=r"other is not measured: 98\.0 %"):
        gate.demand_right({"ours": judgement(1000), "other": judgement(980)})


def talk(way, *seconds, said=(1, 2)):
    return prefixes.Talk(way=way, first_token_seconds=seconds, answers=[said] * len(seconds))


def test_the_gain_of_prefixes_is_the_median_of_the_rounds():
    rounds = [
        {
            prefixes.WITH: talk(prefixes.WITH, 0.01, 0.02, 0.03),
            prefixes.WITHOUT: talk(prefixes.WITHOUT, *(factor * it for it in (0.01, 0.02, 0.03))),
        }
        for factor in (4, 6, 5)
    ]
    found = prefixes.prefix_figures(rounds)
    assert found["ratio_prefix_reuse_ttft"] == 5
    assert found["answers_equal_with_and_without_prefix_reuse_percent"] == 100


def test_answers_that_reuse_changes_are_counted():
    rounds = [
        {
            prefixes.WITH: talk(prefixes.WITH, 0.01, said=(1, 2)),
            prefixes.WITHOUT: talk(prefixes.WITHOUT, 0.01, said=(1, 3)),
        }
    ]
    found = prefixes.prefix_figures(rounds)
    assert found["answers_equal_with_and_without_prefix_reuse_percent"] == 0


def test_vectors_are_read_at_length_one():
    body = b'{"data": [{"embedding": "AABAQAAAgEA="}]}'  # 3 and 4
    assert vectors.vector_of(body) == pytest.approx((0.6, 0.8))


def test_other_vectors_are_not_timed():
    vectors.demand_equal({"ours": 0.0005, "infinity_bfloat16": 0.02})
    with pytest.raises(EngineFailed, match=r"differs by 0\.002"):
        vectors.demand_equal({"ours": 0.002})


def test_texts_to_embed_are_of_mixed_lengths_and_all_different():
    found = vectors.texts(200, seed=SEED)
    lengths = {len(it.split()) for it in found}
    assert len(set(found)) == 200
    assert min(lengths) < 20
    assert max(lengths) > 240
