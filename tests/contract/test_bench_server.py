"""What the benchmark of the server counts: whole answers, medians, and the machine's own limit."""

import asyncio
import re
import sys
from contextlib import asynccontextmanager
from typing import ClassVar

import orjson
import pytest
from aiohttp import web

from bench import command_line, results_file, server
from bench.fronting import asking, fake_server, wire
from bench.fronting.batching import Batching
from bench.fronting.cache import Cache
from bench.fronting.folders import BASE, KINDS, MINILM, Ability, Kind
from bench.fronting.loading import Loading
from bench.fronting.overhead import Overhead
from bench.fronting.parts import at_least
from bench.fronting.roofline import Load, Roofline, best_of
from bench.fronting.serving import ServerFailed
from modelserver_runtime.backends.base import SamplingParameters, SequenceSpec, Work

GENERATION = Kind(ability=Ability.GENERATION, size=BASE)
CLASSIFICATION = Kind(ability=Ability.CLASSIFICATION, size=BASE)


@asynccontextmanager
async def served(handler):
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


# --------------------------------------------------------------------------------- load generator


async def count(handler, *, requests, connections):
    async with served(handler) as address:
        request = wire.prepared("/v1/some", {"a": 1}, "localhost")
        return await wire.ask_many(address, request, count=requests, connections=connections)


async def test_every_request_is_asked_once_whatever_the_connections():
    bodies = []

    async def handler(request):
        bodies.append(await request.json())
        return web.json_response({"ok": True})

    tally = await count(handler, requests=20, connections=3)
    assert (tally.answers, bodies) == (20, [{"a": 1}] * 20)


async def test_the_events_of_a_stream_are_counted_but_for_its_end():
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'data: {"a": "word "}\n\n', b'data: {"a": 2}\n\n', b"data: [DONE]\n\n"):
            await response.write(piece)
            await asyncio.sleep(0)
        return response

    tally = await count(handler, requests=4, connections=2)
    assert (tally.answers, tally.events, tally.words) == (4, 8, 4)


async def test_a_refusal_is_no_answer():
    async def handler(_):
        return web.Response(status=429)

    with pytest.raises(ServerFailed, match="429"):
        await count(handler, requests=2, connections=1)


async def test_a_connection_that_breaks_is_no_answer():
    async def handler(request):
        request.transport.abort()
        return web.Response()

    with pytest.raises(ServerFailed, match="closed"):
        await count(handler, requests=2, connections=1)


async def test_the_time_at_the_server_is_that_of_its_header():
    async def handler(_):
        return web.Response(headers={"server-timing": "queue;dur=0.4, total;dur=12.5"})

    async with served(handler) as (host, port), asking.client_of(f"http://{host}:{port}") as client:
        reply = await client.post("/some", {})
    assert reply.server_seconds == pytest.approx(0.0125)


async def test_an_answer_without_a_time_is_not_taken_for_a_fast_one():
    async def handler(_):
        return web.Response()

    async with served(handler) as (host, port), asking.client_of(f"http://{host}:{port}") as client:
        reply = await client.post("/some", {})
    with pytest.raises(ServerFailed, match="Server-Timing"):
        _ = reply.server_seconds


async def test_a_metric_is_the_sum_over_the_series_with_its_labels():
    page = (
        "# TYPE hits counter\n"
        'hits_total{route="/a",code="200"} 3\nhits_total{route="/a",code="400"} 2\n'
        'hits_total{route="/b",code="200"} 7\n'
    )

    async def handler(_):
        return web.Response(text=page)

    async with served(handler) as (host, port), asking.client_of(f"http://{host}:{port}") as client:
        assert await client.metric("hits_total", route="/a") == 5
        assert await client.metric("hits_total") == 12
        assert await client.metric("misses_total") == 0


# --------------------------------------------------------------------------------------- roofline


MACHINE = {"float32_gflops": 100, "bfloat16_gflops": 100, "read_gigabytes_per_second": 10}


def roofline(**changes):
    return Roofline(**{**MACHINE, **changes})


TEXT = Load(text_tokens=32)
GENERATED = Load(text_tokens=1, output_tokens=10)


def test_an_encoder_computes_with_every_weight_for_every_token():
    """2 operations for each of 85 million weights and 32 tokens: 5.4 billion."""
    found = roofline(float32_gflops=54.36).requests_per_second(CLASSIFICATION, TEXT, batch=32)
    assert found == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(
    ("gflops", "gain"),
    [
        # A weight of 2 bytes takes 0.2 ns to read, and 2 operations for each sequence.
        pytest.param(10_000, 32, id="reading decides: as many times as are in the batch"),
        pytest.param(100, 10, id="computing takes over at ten"),
        pytest.param(5, 1, id="computing decides: nothing to gain"),
    ],
)
def test_a_batch_of_answers_reads_the_weights_once_for_all(gflops, gain):
    machine = roofline(bfloat16_gflops=gflops)
    alone = machine.requests_per_second(GENERATION, GENERATED, batch=1)
    together = machine.requests_per_second(GENERATION, GENERATED, batch=32)
    assert together / alone == pytest.approx(gain)


def test_the_best_that_was_reached_is_the_limit():
    found = best_of([roofline(float32_gflops=120), roofline(read_gigabytes_per_second=26)])
    assert found == roofline(float32_gflops=120, read_gigabytes_per_second=26)


# ---------------------------------------------------------------------------------------- figures


def test_the_ratio_is_that_of_each_round():
    def a_round(hit, uncached):
        return {
            "hit_p50_milliseconds": hit,
            "uncached_p50_milliseconds": uncached,
            "hit_p50_milliseconds_at_client": 2 * hit,
            "uncached_p50_milliseconds_at_client": uncached,
            "hit_mean_milliseconds_by_metric": hit,
            "generations_for_1000_identical": hit,
        }

    figures = Cache().figures([a_round(1.0, 100.0), a_round(2.0, 600.0), a_round(4.0, 800.0)])
    assert figures["ratio_cache_hit_to_uncached"] == 200
    assert figures["ratio_cache_hit_to_uncached_at_client"] == 100
    assert figures["cache_hit_p50_milliseconds"] == 2
    # One generation too many in any round is one too many.
    assert figures["generations_for_1000_identical"] == 4


def batching_figures(ratios):
    rounds = [
        {"model": kind.name, "ratio": ratio, "batched": 10 * ratio, "unbatched": 10.0, **MACHINE}
        for kind, ratio in zip(KINDS, ratios, strict=True)
    ]
    return Batching().figures(rounds)


def test_the_best_and_the_worst_of_all_models_have_figures():
    figures = batching_figures([2.0, 1.5, 3.0, 1.0, 12.0, 8.0])
    assert figures["ratio_batched_to_unbatched_c32_best"] == 12
    assert figures["ratio_batched_to_unbatched_c32_worst"] == 1
    assert figures["requests_per_second_batched_c32_generation_minilm"] == 120


def test_a_missed_promise_is_explained_by_the_machine_only_where_it_is_its_limit():
    figures = batching_figures([2.0, 1.5, 3.0, 1.0, 12.0, 8.0])
    limits = {f"limit_of_ratio_c32_{kind.name}": 4.0 for kind in KINDS}
    limits["limit_of_ratio_c32_generation_125m"] = 20.0
    text = " ".join(Batching().remarks(figures | limits))
    forbidden = re.search(r"beyond that limit for (.*?)\.", text)[1]
    allowed = re.search(r"For (\S+) the limit would allow it", text)[1]
    assert "generation" not in forbidden
    assert allowed == "generation_125m"


@pytest.mark.parametrize("name", list(server.PARTS))
def test_every_bound_is_about_a_figure_of_its_part(name):
    part = server.PARTS[name]()
    numbers = dict.fromkeys(_ROUND_NUMBERS, 5.0)
    rounds = [{**numbers, "model": kind.name} for kind in KINDS]
    figures = part.figures(rounds)
    assert part.bounds.keys() <= figures.keys()
    targets = server.targets_of(part, figures)
    assert {key: target.holds for key, target in targets.items()} == {
        key: bound.holds(figures[key]) for key, bound in part.bounds.items()
    }


_ROUND_NUMBERS = (
    *("hit_p50_milliseconds", "uncached_p50_milliseconds", "hit_mean_milliseconds_by_metric"),
    *("hit_p50_milliseconds_at_client", "uncached_p50_milliseconds_at_client"),
    *("generations_for_1000_identical", "ratio", "batched", "unbatched"),
    "stream_tokens_per_event",
    *("plain_per_cpu_second", "plain_per_second", "cached_per_cpu_second", "logged_per_cpu_second"),
    *("stream_microseconds_per_token", "stream_tokens_per_second"),
    *("cached_milliseconds", "cold_milliseconds", *MACHINE),
)


@pytest.mark.parametrize(
    ("part", "figure", "value", "holds"),
    [
        (Cache, "cache_hit_p50_milliseconds", 0.99, True),
        (Cache, "cache_hit_p50_milliseconds", 1.0, False),
        (Cache, "ratio_cache_hit_to_uncached", 160, True),
        (Cache, "generations_for_1000_identical", 2, False),
        (Overhead, "requests_per_second_per_core_fake_backend", 2999, False),
        (Overhead, "microseconds_per_streamed_token", 10, True),
        (Loading, "cached_model_load_milliseconds", 10, False),
        (Batching, "ratio_batched_to_unbatched_c32_generation_125m", 9.9, False),
    ],
)
def test_a_bound_holds_or_does_not(part, figure, value, holds):
    assert part().bounds[figure].holds(value) is holds


def test_the_help_describes_every_part():
    text = server._parser().format_help()
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in server.PARTS)


def test_each_kind_of_model_has_a_name_and_a_folder_of_its_own():
    assert len({kind.name for kind in KINDS}) == len({kind.folder for kind in KINDS}) == 6
    assert {kind.size for kind in KINDS} == {MINILM, BASE}


# ----------------------------------------------------------------------------------- instant model


def test_the_instant_model_reads_its_prompt_before_it_answers():
    backend = fake_server.InstantBackend()
    sampling = SamplingParameters(max_tokens=5)
    backend.add(SequenceSpec(sequence_id=1, prompt_token_ids=(1,) * 10, sampling=sampling))
    steps = [backend.step([Work(sequence_id=1, tokens=n)])[0].token_id for n in (6, 4, 1, 1)]
    assert steps == [None, 1, 1, 1]


# --------------------------------------------------------------------------------------- the whole


class OnePart:
    bounds: ClassVar = {"speed": at_least(3)}

    async def measure(self, rounds, say):
        say("measuring")
        return [{"part": "one", "round": number, "speed": 1.23456} for number in range(rounds)]

    def figures(self, rounds):
        return {"speed": 2.0 * len(rounds), "other": 1}

    def remarks(self, _):
        yield "A remark."


def run_benchmark(monkeypatch, folder, *flags):
    monkeypatch.setattr(results_file, "FOLDER", folder)
    monkeypatch.setattr(server, "PARTS", {"one": OnePart, "two": OnePart})
    monkeypatch.setattr(sys, "argv", ["bench.server", "--rounds", "2", "--patience", "0", *flags])
    # the handler of SIGTERM belongs to the process of the tests
    monkeypatch.setattr(command_line.signal, "signal", lambda *_: None)
    assert server.main() == 0


def test_a_run_of_all_parts_writes_figures_targets_and_rounds(monkeypatch, tmp_path):
    run_benchmark(monkeypatch, tmp_path)
    written = orjson.loads((tmp_path / "server.json").read_bytes())
    assert written["figures"] == {"speed": 4.0, "other": 1}
    assert written["targets"] == {"speed": {"bound": ">= 3", "holds": True}}
    assert [one["speed"] for one in written["rounds"]] == [1.2346] * 4
    assert "A remark." in written["note"]
    assert written["command"] == "python -m bench.server --rounds 2"


def test_a_run_of_some_parts_writes_nothing(monkeypatch, tmp_path, capsys):
    run_benchmark(monkeypatch, tmp_path, "--only", "one")
    assert not (tmp_path / "server.json").exists()
    assert ">= 3: holds" in capsys.readouterr().out
