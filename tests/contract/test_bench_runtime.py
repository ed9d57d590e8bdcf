"""What the serving benchmark counts: tokens, times, failures, and whether answers are right."""

import asyncio
import json
import re
import sys
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from aiohttp import web
from transformers import LlamaConfig, LlamaForCausalLM

from bench import report, results_file, runtime
from bench.serving import engines, figures, words
from bench.serving.answers import Answer, Load
from bench.serving.client import Endpoint, Recording, answer_of, ask_all
from bench.serving.judge import judge
from bench.serving.judging import Verdict
from bench.serving.measurement import Measurement
from bench.serving.model import make_tokenizer
from bench.serving.processes import Quietness, cpu_seconds, running
from modelserver_runtime.__main__ import _parser
from support.waiting import wait_until

WORDS = words.vocabulary()[len(words.SPECIAL_TOKENS) :]
MESSAGES = words.messages(6, prompt_tokens=16, seed=1)


def chunk(content):
    return f"data: {json.dumps({'choices': [{'delta': {'content': content}}]})}\n\n".encode()


def answer_of_pieces(*pieces, output_tokens):
    recording = Recording("hello", sent=100.0, pieces=[(100.0 + at, raw) for at, raw in pieces])
    return answer_of(recording, output_tokens=output_tokens)


def test_every_token_is_one_word_and_every_word_one_token():
    tokenizer = make_tokenizer()
    ids = list(range(words.VOCABULARY_SIZE))
    assert len(set(words.vocabulary())) == words.VOCABULARY_SIZE
    assert words.token_ids(tokenizer.decode(ids)) == tuple(ids)


def test_a_prompt_has_the_wanted_length_after_the_chat_template():
    rendered = make_tokenizer().apply_chat_template(
        [{"role": "user", "content": MESSAGES[0]}], add_generation_prompt=True, return_dict=True
    )
    assert tuple(rendered["input_ids"]) == words.chat_token_ids(MESSAGES[0])
    assert len(rendered["input_ids"]) == 16


def test_prompts_differ_between_messages_and_seeds_and_not_between_runs():
    other = words.messages(6, prompt_tokens=16, seed=2)
    assert len({*MESSAGES, *other}) == 12
    assert words.messages(6, prompt_tokens=16, seed=1) == MESSAGES


def test_tokens_are_counted_by_words_not_by_chunks():
    text = f"{WORDS[5]} {WORDS[6]}"
    answer = answer_of_pieces((0.5, chunk(text)), (0.9, chunk(f" {WORDS[7]}")), output_tokens=3)
    assert answer.token_ids == words.token_ids(f"{text} {WORDS[7]}")


def test_the_first_token_is_the_first_text_not_the_first_chunk():
    role = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n'
    pieces = [(0.1, role), (0.7, chunk(WORDS[1])), (1.5, chunk(" " + WORDS[2])), (1.6, b"")]
    answer = answer_of_pieces(*pieces, output_tokens=2)
    assert (answer.first_token_seconds, answer.total_seconds) == pytest.approx((0.7, 1.5))
    assert answer.seconds_per_token == pytest.approx(0.8)


def test_events_may_come_in_any_pieces():
    """An event has come when its last byte has."""
    stream = chunk(WORDS[1]) + chunk(" " + WORDS[2]) + b": ping\n\ndata: [DONE]\n\n"
    middle = len(chunk(WORDS[1])) - 3
    answer = answer_of_pieces((1.0, stream[:middle]), (2.0, stream[middle:]), output_tokens=2)
    assert answer.first_token_seconds == pytest.approx(2.0)
    assert len(answer.token_ids) == 2


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        pytest.param([chunk(WORDS[1])], "1 tokens instead of 2", id="too few tokens"),
        pytest.param([chunk(" ".join(WORDS[:3]))], "3 tokens instead of 2", id="too many tokens"),
        pytest.param([], "0 tokens instead of 2", id="nothing"),
        pytest.param([b'data: {"error": "full"}\n\n'], "full", id="error in the stream"),
        pytest.param([chunk("no such words")], "KeyError", id="unknown words"),
        pytest.param([b"data: {broken\n\n"], "unreadable", id="not JSON"),
    ],
)
def test_an_answer_that_is_not_as_long_as_asked_for_has_failed(pieces, reason):
    answer = answer_of_pieces(*((1.0, piece) for piece in pieces), output_tokens=2)
    assert reason in answer.failure


@asynccontextmanager
async def server(handler):
    application = web.Application()
    application.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Endpoint(url=f"http://127.0.0.1:{runner.addresses[0][1]}", model="benchmark")
    finally:
        await runner.cleanup()


def load_of(concurrency, *, limit_seconds=20.0):
    return Load(concurrency=concurrency, output_tokens=1, limit_seconds=limit_seconds)


async def ask(handler, load, *, afterwards=lambda: None):
    async with server(handler) as endpoint:
        recordings = await ask_all(endpoint, MESSAGES, load)
        afterwards()
    return [answer_of(recording, output_tokens=1) for recording in recordings]


async def test_the_load_keeps_its_concurrency_and_asks_each_message_once():
    """Answers are given to three at once only, so that fewer at a time would get none."""
    three, now, most, asked = asyncio.Barrier(3), 0, 0, []

    async def handler(request):
        nonlocal now, most
        asked.append((await request.json())["messages"][0]["content"])
        now += 1
        most = max(most, now)
        async with three:
            now -= 1
        return web.Response(body=chunk(WORDS[1]))

    answers = await ask(handler, load_of(3))
    assert most == 3
    assert sorted(asked) == sorted(MESSAGES)
    assert [answer.failure for answer in answers] == [""] * len(MESSAGES)


async def test_a_refused_request_is_a_failure_that_says_why():
    async def handler(_):
        return web.Response(status=429, text="queue is full")

    answers = await ask(handler, load_of(2))
    assert {answer.failure for answer in answers} == {"429: queue is full"}


async def test_what_is_not_answered_in_time_has_failed_and_the_rest_counts():
    much_later = asyncio.Event()

    async def handler(request):
        body = await request.json()
        if body["messages"][0]["content"] != MESSAGES[0]:
            await much_later.wait()
        return web.Response(body=chunk(WORDS[1]))

    load = load_of(len(MESSAGES), limit_seconds=1.0)
    answers = await ask(handler, load, afterwards=much_later.set)
    assert answers[0].failure == ""
    assert {answer.failure for answer in answers[1:]} == {load.too_late}


async def test_a_server_that_breaks_off_gives_failures():
    async def handler(request):
        request.transport.abort()
        return web.Response()

    assert all(answer.failure for answer in await ask(handler, load_of(2)))


# ------------------------------------------------------------------------------------- figures


def measurement(engine, answers, *, round_number=1, seconds=2.0, others=0.0):
    return Measurement(
        engine=engine,
        concurrency=8,
        round=round_number,
        answers=answers,
        seconds=seconds,
        engine_cpu_seconds=0.5,
        client_cpu_seconds=0.1,
        others_busy_cores=others,
        before=Quietness(load_average=0.0, busy_cores=0.0, waited_seconds=1.0),
    )


def answered(*token_ids, message="hello", first=0.25, total=1.25):
    return Answer(
        message=message, token_ids=token_ids, first_token_seconds=first, total_seconds=total
    )


def test_a_figure_is_the_median_of_the_rounds():
    rounds = [
        measurement("ours", [answered(1, 2, 3, 4)], round_number=number, seconds=seconds)
        for number, seconds in enumerate([1.0, 4.0, 2.0], start=1)
    ]
    found = figures.speed_figures(rounds)
    assert found["tokens_per_second_c8_ours"] == 2.0
    assert found["first_token_milliseconds_c8_ours"] == 250
    assert found["cpu_seconds_per_1000_tokens_c8_ours"] == 125


def test_disturbed_measurements_count_only_where_there_is_no_other():
    quiet = measurement("ours", [answered(1, 2)], seconds=1.0)
    disturbed = measurement("ours", [answered(1, 2)], seconds=10.0, others=0.9)
    only = measurement("generate", [answered(1, 2)], seconds=5.0, others=0.9)
    found = figures.speed_figures([quiet, disturbed, disturbed, only])
    assert found["tokens_per_second_c8_ours"] == 2.0
    assert found["tokens_per_second_c8_generate"] == 0.4


def test_failed_requests_are_counted_and_give_no_tokens():
    one = measurement("ours", [answered(1, 2, 3, 4), Answer(message="m", failure="503: full")])
    assert figures.failure_figures([one]) == {"failed_requests_ours": 1}
    assert figures.speed_figures([one])["tokens_per_second_c8_ours"] == 2.0
    assert one.as_round()["failures"] == ["503: full"]


def test_an_engine_that_answered_nothing_has_no_speed():
    one = measurement("ours", [Answer(message="m", failure="503: full")])
    assert figures.speed_figures([one]) == {}
    assert one.as_round()["output_tokens"] == 0


def test_answers_are_compared_with_those_of_generate_to_the_same_message():
    found = figures.equality_figures(
        [
            measurement("generate", [answered(1, message="a"), answered(2, message="b")]),
            measurement("ours", [answered(1, message="a"), answered(3, message="b")]),
        ]
    )
    assert found == {"answers_equal_to_generate_percent_ours": 50.0}


def test_right_tokens_are_a_share_of_the_judged_ones():
    found = figures.correctness_figures({"ours": Verdict(tokens=8, best=4, near=6)})
    assert found == {"tokens_right_percent_ours": 75.0, "tokens_most_likely_percent_ours": 50.0}


# --------------------------------------------------------------------------------------- judge


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    configuration = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(configuration).eval()


def greedy(model, prompt, *, tokens):
    generated = model.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False)
    return generated[0, len(prompt) :].tolist()


def test_the_judge_finds_greedy_answers_right(small_model):
    prompt = list(range(10, 30))
    output = greedy(small_model, prompt, tokens=12)
    assert judge(small_model, prompt=prompt, output=output) == {"best": 12, "near": 12}


@pytest.mark.parametrize("position", [0, 7, 11])
def test_the_judge_finds_one_wrong_token(small_model, position):
    prompt = list(range(10, 30))
    output = greedy(small_model, prompt, tokens=12)
    output[position] = (output[position] + 1) % 500 + 5
    assert judge(small_model, prompt=prompt, output=output)["near"] < 12


def test_the_judge_finds_the_answer_to_another_prompt_wrong(small_model):
    output = greedy(small_model, list(range(10, 30)), tokens=12)
    verdict = judge(small_model, prompt=list(range(200, 220)), output=output)
    assert verdict["near"] < 12


# --------------------------------------------------------------------------- processes, contract


BUSY_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"


async def test_an_engine_is_measured_and_ended_together_with_its_children(tmp_path):
    command = [sys.executable, "-c", BUSY_CHILD]
    async with running(command, environment={}, log=tmp_path / "log") as process:
        used = partial(cpu_seconds, process.pid)
        wait_until(lambda: used() > 0.5, timeout=60, what="the child computes")
        assert len(members(process.pid)) == 2
    wait_until(lambda: not members(process.pid), timeout=10, what="parent and child have ended")


def members(group):
    """The living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, number, *_ = path.read_text().rpartition(")")[2].split()
            found += [path] if int(number) == group and state != "Z" else []
    return found


async def test_ours_is_started_with_flags_that_the_runtime_has(monkeypatch, tmp_path):
    started = []

    @asynccontextmanager
    async def fake_server(_, command, *__, **___):
        started.append(command)
        yield None

    monkeypatch.setattr(engines, "_server", fake_server)
    async with engines.engine_starters()["ours"](tmp_path, {}):
        pass
    [command] = started
    parsed = _parser().parse_args(command[3:])
    assert (parsed.command, parsed.model) == ("serve", str(tmp_path))


def test_the_help_describes_every_engine():
    text = runtime._parser().format_help()
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in engines.engine_starters())


def result_of(folder, monkeypatch, **more):
    monkeypatch.setattr(results_file, "FOLDER", folder)
    result = results_file.Result(
        bench="example",
        command="python -m bench.example",
        software=results_file.versions(["torch"]),
        rounds=[{"round": 1}],
        note="A sentence.",
        **more,
    )
    return json.loads(result.write().read_text())


def test_a_result_file_is_one_that_the_report_can_show(monkeypatch, tmp_path):
    missed = results_file.Target(bound="<= 1", holds=False)
    figures_ = {"seconds": 1.5, "writes": 3}
    result = result_of(tmp_path, monkeypatch, figures=figures_, targets={"seconds": missed})
    text = report.section(result)
    assert "| `seconds` | 1.5 | <= 1 | **no** |" in text
    assert "| `writes` | 3 | | |" in text
    assert "A sentence." in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text


def test_the_report_shows_ours_beside_each_peer(monkeypatch, tmp_path):
    found = {"seconds_c1_ours": 1.5, "seconds_c1_other": 25123.4, "share_ours": 7, "requests": 3}
    result = result_of(tmp_path, monkeypatch, figures=found, peers=["ours", "other"])
    text = report.section(result)
    assert "| figure | ours | other |" in text
    assert "| `seconds_c1_…` | 1.5 | 25,123 |" in text
    assert "| `share_…` | 7 |  |" in text
    assert "| `requests` | 3 | | |" in text
