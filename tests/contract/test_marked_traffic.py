"""The traffic of the end-to-end tests finds what it is there to find."""

import asyncio
import json

import pytest

from modelserver_operator.cluster.readings import model_answer
from support.marked_model import MarkedModel
from support.marked_traffic import Answer, MarkedTraffic

GOOD = {"began": 1.0, "seconds": 0.1, "status": 200, "times_seen": "1"}


def traffic_of(*answers, sent):
    return MarkedTraffic(url="", model="chat", answers=list(answers), sent=sent)


def answer(number, **more):
    mark = f"chat-{number}"
    return Answer(**{**GOOD, "mark": mark, "marked": mark, **more})


def test_good_answers_are_nothing_to_complain_about():
    traffic = traffic_of(answer(0), answer(1), sent=2)
    assert traffic.failures() == traffic.mistaken() == []
    assert traffic.lost() == set()


def test_a_request_without_an_outcome_is_lost():
    assert traffic_of(answer(0), sent=2).lost() == {"chat-1"}


def test_a_request_with_two_outcomes_is_told():
    assert traffic_of(answer(0), answer(0), sent=1).lost() == {"chat-0"}


@pytest.mark.parametrize(
    "mistake", [{"marked": "chat-7"}, {"times_seen": "2"}], ids=["swapped", "asked twice"]
)
def test_a_wrong_answer_is_mistaken(mistake):
    assert len(traffic_of(answer(0, **mistake), sent=1).mistaken()) == 1


def test_errors_of_one_revision_alone_may_be_left_out():
    traffic = traffic_of(
        answer(0, status=500, revision="new"),
        answer(1, status=500, revision="old"),
        answer(2, status=0),
        sent=3,
    )
    assert [one.mark for one in traffic.failures(but_of="new")] == ["chat-1", "chat-2"]


def test_only_what_a_router_passed_on_counts_for_a_share():
    traffic = traffic_of(
        answer(0, router_says="new"), answer(1), answer(2, router_says="old", began=9.0), sent=3
    )
    assert traffic.through_router(0, 5) == {"new": 1}


def test_behind_a_gateway_those_count_who_made_the_answers():
    traffic = traffic_of(
        answer(0, revision="new"), answer(1, revision="old", began=9.0), answer(2), sent=3
    )
    assert traffic.made_by(0, 5) == {"new": 1, "": 1}


# -- the stand-in that it asks ---------------------------------------------------------------------


def asked(model, mark, *headers):
    """The status, the headers and the document of one answer."""
    body = json.dumps({"messages": [{"role": "user", "content": mark}]}).encode()
    status, heard, content = sent_to(model, "/v1/chat/completions", body, *headers)
    return status, heard, json.loads(content)


def sent_to(model, path, body, *headers):
    status, heard, content, *_ = _sent(model, path, body, *headers)
    return status, heard, content


def parts_of(model, path, asked):
    return _sent(model, path, json.dumps(asked).encode())


def _sent(model, path, body, *headers):
    sent = []
    scope = {"path": path, "headers": list(headers)}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(model(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), *(one["body"] for one in sent[1:])


def model_with(**environment):
    return MarkedModel({"ANSWER_MILLISECONDS": "0", "MODELSERVER_REVISION": "new", **environment})


def test_an_answer_bears_the_mark_and_the_revision():
    status, headers, document = asked(model_with(VOICE="other"), "chat-3")
    assert status == 200
    assert headers[b"x-request-id"] == b"chat-3"
    assert headers[b"x-model-revision"] == b"new"
    assert document["choices"][0]["message"]["content"] == "other chat-3"


def test_every_nth_request_fails_but_no_copy():
    model = model_with(FAIL_EVERY="2")
    copy = (b"x-modelserver-shadow", b"true")
    statuses = [asked(model, f"chat-{n}", *more)[0] for n, more in enumerate([(), (copy,), ()])]
    assert statuses == [200, 200, 500]


def test_a_mark_that_comes_twice_is_counted():
    model = model_with()
    assert [asked(model, "chat-1")[1][b"x-times-seen"] for _ in range(2)] == [b"1", b"2"]


def test_it_counts_clients_in_words_that_the_operator_reads():
    model = model_with(FAIL_EVERY="2")
    for number, more in enumerate([(), (), (), ((b"x-modelserver-shadow", b"true"),)]):
        asked(model, f"chat-{number}", *more)
    _, _, text = sent_to(model, "/metrics", b"")
    tally = model_answer(text).tally
    assert (tally.requests, tally.errors, tally.latency.count) == (3, 1, 3)


def test_a_stream_is_the_same_answer_in_words():
    asked = {"messages": [{"role": "user", "content": "chat-1"}], "stream": True}
    status, headers, *parts = parts_of(model_with(), "/v1/chat/completions", asked)
    assert (status, headers[b"content-type"]) == (200, b"text/event-stream")
    assert headers[b"x-request-id"] == b"chat-1"
    events = b"".join(parts).decode().split("\n\n")
    words = [json.loads(one.removeprefix("data: "))["choices"][0]["delta"]["content"]
             for one in events[:-2]]  # fmt: skip
    assert words == ["same ", "chat-1 "]
    assert events[-2:] == ["data: [DONE]", ""]


def test_it_loads_until_it_is_told_that_it_has():
    model = model_with(LOADING="1")
    assert [sent_to(model, path, b"")[0] for path in ("/readyz", "/livez")] == [503, 200]
    assert json.loads(sent_to(model, "/startupz", b"")[2]) == {"phase": "Loading"}
    sent_to(model, "/loaded", b"")
    assert sent_to(model, "/readyz", b"")[0] == 200


def test_who_was_told_when_to_try_again_was_told_something():
    answers = [answer(0), answer(1, status=503, retry_after="2"), answer(2, status=503)]
    traffic = traffic_of(*answers, answer(3, status=0), answer(4, status=504), sent=5)
    assert [one.mark for one in traffic.untold()] == ["chat-2", "chat-3", "chat-4"]
