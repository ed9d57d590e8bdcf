"""What the soak counts as a fault: each kind of it is made here, and must be found."""

import asyncio
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web

from bench import soak
from bench.soaking import scripts
from bench.soaking.asking import Asker, Keys
from bench.soaking.marks import (
    Pool,
    Question,
    Verdict,
    scores,
    scores_of_prediction,
    text_of_chat,
)
from bench.soaking.server import POISON, BreakingBackend
from bench.soaking.tally import AdmissionLog, Fault, MemoryCurve, Tally
from modelserver_runtime.backends.base import TaskItem

KEYS = Keys(worker="w", limited="l", revoked="r", limit=2)


def a_question(text):
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return Question(route=scripts.CHAT, body=body, read=text_of_chat)


def a_pool(*marks):
    pool = Pool()
    for mark in marks:
        assert pool.add(a_question(str(mark)), mark)
    return pool


# ------------------------------------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("one", Verdict.RIGHT), ("two", Verdict.SWAPPED), ("three", Verdict.WRONG)],
)
def test_a_text_is_mine_anothers_or_nobodys(answer, verdict):
    pool = a_pool("one", "two")
    assert pool.judge(pool.known[0], answer) is verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        pytest.param((0.100001, 0.9), Verdict.RIGHT, id="rounded differently"),
        pytest.param((0.2, 0.8), Verdict.SWAPPED, id="another's"),
        pytest.param((0.15, 0.85), Verdict.WRONG, id="nobody's"),
        pytest.param((0.1, 0.9, 0.0), Verdict.WRONG, id="too long"),
        pytest.param((), Verdict.WRONG, id="empty"),
    ],
)
def test_a_vector_is_mine_anothers_or_nobodys(answer, verdict):
    pool = a_pool((0.1, 0.9), (0.2, 0.8))
    assert pool.judge(pool.known[0], answer) is verdict


@pytest.mark.parametrize(("first", "second"), [("one", "one"), ((0.1, 0.2), (0.10001, 0.2))])
def test_answers_that_could_be_taken_for_one_another_are_not_both_asked(first, second):
    assert not a_pool(first).add(a_question("second"), second)


def test_scores_are_compared_by_label_whatever_their_order():
    answers = [{"label": "b", "score": 0.7}, {"label": "a", "score": 0.3}]
    assert scores(answers) == scores(answers[::-1]) == (0.3, 0.7)


# ------------------------------------------------------------------------------------------- tally


def test_an_id_that_comes_twice_is_a_duplicate():
    tally = Tally()
    for answer_id in ("a", "b", "a"):
        tally.note_id("chat", answer_id)
    assert tally.faults == {Fault.DUPLICATED: 1}


@pytest.mark.parametrize(
    ("times", "is_fine"),
    [
        pytest.param([(0, 1), (1, 2), (60.5, 61)], True, id="a minute between them"),
        pytest.param([(0, 1), (1, 2), (58, 59)], False, id="three within a minute"),
        pytest.param([(0, 1), (1, 2), (59.5, 60.5)], True, id="perhaps a minute: no proof"),
    ],
)
def test_a_limit_is_broken_when_more_were_certainly_let_in(times, is_fine):
    admissions = AdmissionLog(limit=2)
    assert [admissions.note(*pair) for pair in times] == [True, True, is_fine]


def curve(size_at):
    found = MemoryCurve()
    for second in range(400):
        found.note(float(second), size_at(second))
    return found.figures()


def test_growth_after_warm_up_is_seen_and_warm_up_is_not():
    steady = curve(lambda second: 100.0 + min(second, 90))
    leaking = curve(lambda second: 100.0 + second / 10)
    assert steady["soak_memory_growth_megabytes"] == 0
    assert steady["soak_memory_slope_megabytes_per_hour"] == 0
    assert leaking["soak_memory_growth_megabytes"] == pytest.approx(27, abs=0.2)
    assert leaking["soak_memory_slope_megabytes_per_hour"] == pytest.approx(360)


def test_one_spike_is_no_growth():
    assert (
        curve(lambda second: 500.0 if second == 399 else 100.0)["soak_memory_growth_megabytes"] == 0
    )


# ------------------------------------------------------------------------------------------ asking


@asynccontextmanager
async def asker_of(handler):
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    asker = Asker(f"http://{host}:{port}", KEYS, Tally(), seed=1)
    asker.pools.chats.add(a_question("first"), "one")
    try:
        async with asker.open():
            yield asker
    finally:
        await runner.cleanup()


def an_answer(request, *, text="one", answer_id="a", own_id=None, status=200):
    body = {"id": answer_id, "choices": [{"message": {"content": text}}]}
    headers = {"x-request-id": own_id or request.headers["x-request-id"]}
    return web.json_response(body, headers=headers, status=status)


async def faults_of(handler, script):
    async with asker_of(handler) as asker:
        await scripts.run(asker, script)
        return dict(asker.tally.faults)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param({}, {}, id="right"),
        pytest.param({"text": "other"}, {Fault.WRONG: 1}, id="nobody's answer"),
        pytest.param({"own_id": "soak-77"}, {Fault.SWAPPED: 1}, id="another request's id"),
        pytest.param({"status": 503}, {Fault.UNEXPECTED_STATUS: 1}, id="refused"),
    ],
)
async def test_an_answer_that_is_not_the_right_one_is_found(changes, fault):
    async def handler(request):
        return an_answer(request, **changes)

    assert await faults_of(handler, scripts._chat) == fault


async def test_a_connection_that_breaks_is_a_lost_answer():
    async def handler(request):
        request.transport.abort()
        return web.Response()

    assert await faults_of(handler, scripts._chat) == {Fault.LOST: 1}


def a_chunk(text, *, finish_reason=None, answer_id="a"):
    choice = {"delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + orjson.dumps({"id": answer_id, "choices": [choice]}) + b"\n\n"


END = a_chunk("", finish_reason="length") + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(a_chunk("o") + a_chunk("ne") + END, {}, id="right"),
        pytest.param(a_chunk("o") + a_chunk("ne"), {Fault.LOST: 1}, id="no end"),
        pytest.param(b"", {Fault.LOST: 1}, id="nothing"),
        pytest.param(a_chunk("o") + a_chunk("o") + END, {Fault.WRONG: 1}, id="a piece twice"),
        pytest.param(
            a_chunk("one") + a_chunk("", finish_reason="length") + END,
            {Fault.DUPLICATED: 1},
            id="two ends",
        ),
        pytest.param(
            a_chunk("o") + a_chunk("ne", answer_id="b") + END, {Fault.DUPLICATED: 1}, id="two ids"
        ),
        pytest.param(
            a_chunk("o") + b'data: {"error": {"message": "died"}}\n\ndata: [DONE]\n\n',
            {Fault.LOST: 1},
            id="an error in the stream",
        ),
    ],
)
@pytest.mark.parametrize("script", [scripts._streamed_chat, scripts._slow_reader])
async def test_a_stream_must_be_one_whole_answer(content, fault, script):
    async def handler(request):
        headers = {"x-request-id": request.headers["x-request-id"]}
        return web.Response(body=content, headers=headers)

    async with asker_of(handler) as asker:
        asker.pools.long_chats.add(a_question("long"), "one")
        await scripts.run(asker, script)
        assert dict(asker.tally.faults) == fault


async def test_predictions_of_a_batch_are_judged_by_their_places():
    async def handler(request):
        inputs = (await request.json())["inputs"]
        marks = [float(text) for text in inputs]
        marks[0], marks[1] = marks[1], marks[0]
        results = [{"output": [{"label": "a", "score": mark}]} for mark in marks]
        return web.json_response(
            {"results": results}, headers={"x-request-id": request.headers["x-request-id"]}
        )

    async with asker_of(handler) as asker:
        for number in range(4):
            body = {"model": "m", "inputs": f"0.{number}"}
            question = Question(route="/predict", body=body, read=lambda answer: answer)
            asker.pools.predictions.add(question, (float(f"0.{number}"),))
        await scripts.run(asker, scripts._batch_prediction)
        assert dict(asker.tally.faults) == {Fault.SWAPPED: 2}


async def test_poison_must_fail_and_what_comes_beside_it_must_not():
    async def handler(request):
        is_poison = POISON in (await request.json())["inputs"]
        output = [{"label": "a", "score": 0.5}]
        headers = {"x-request-id": request.headers["x-request-id"]}
        return web.json_response(
            {"output": output}, headers=headers, status=500 if is_poison == is_right else 200
        )

    async with asker_of(handler) as asker:
        body = {"model": "m", "inputs": "any"}
        question = Question(route="/predict", body=body, read=scores_of_prediction)
        asker.pools.predictions.add(question, (0.5,))
        is_right = True
        await scripts.run(asker, scripts.poison)
        assert asker.tally.faults == {}
        assert asker.tally.requests == {"poison": 1, "prediction beside poison": 2}
        is_right = False
        await scripts.run(asker, scripts.poison)
        assert asker.tally.faults == {Fault.UNEXPECTED_STATUS: 3}


async def test_a_limit_that_lets_too_many_in_is_found():
    async def handler(request):
        return an_answer(request)

    async with asker_of(handler) as asker:
        for _ in range(KEYS.limit + 1):
            await scripts.run(asker, scripts._limited_key)
        assert asker.tally.faults == {Fault.UNEXPECTED_STATUS: 1}


async def test_clients_go_on_until_they_are_stopped():
    stopped, asked = asyncio.Event(), 0

    async def handler(request):
        nonlocal asked
        asked += 1
        if asked == 10:
            stopped.set()
        return an_answer(request, status=401)

    async with asker_of(handler) as asker:
        for pool in (asker.pools.long_chats, asker.pools.completions):
            pool.add(a_question("any"), "any")
        for number in range(4):
            asker.pools.embeddings.add(a_question("any"), (float(number),))
            body = {"inputs": "any"}
            question = Question(route="/predict", body=body, read=lambda answer: answer)
            asker.pools.predictions.add(question, (float(number),))
        await scripts.ask_until(asker, stopped)
        assert asked == 10


# ------------------------------------------------------------------------------------------ server


class Echo:
    def warm_up(self): ...

    def run(self, items):
        return [item.inputs for item in items]


def test_the_model_breaks_for_all_that_is_computed_with_the_word():
    backend = BreakingBackend(Echo())
    assert backend.run([TaskItem(inputs="a"), TaskItem(inputs="b")]) == ["a", "b"]
    with pytest.raises(RuntimeError):
        backend.run([TaskItem(inputs="a"), TaskItem(inputs=f"b {POISON}")])


def test_every_fault_has_a_target_of_none():
    figures = dict.fromkeys([f"soak_{fault}" for fault in Fault], 0)
    others = {"soak_readiness_lies": 0, "soak_left_running": 1, "soak_memory_growth_megabytes": 33}
    targets = soak._targets(figures | others)
    assert {name for name, target in targets.items() if not target.holds} == {
        "soak_left_running",
        "soak_memory_growth_megabytes",
    }
