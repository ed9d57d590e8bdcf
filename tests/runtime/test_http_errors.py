"""Wrong requests: each is refused with its status, the field at fault and a sentence that helps."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.runtime_server import RunningServer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
HELLO = [{"role": "user", "content": "hello"}]
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A request, and what is said about it."""

    path: str
    body: Any = None
    status: int = 400
    says: str
    param: str | None = None
    code: str | None = None
    method: str = "POST"
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    server: str = "chat_server"


def chat(says: str, *, param: str | None = None, **changes: Any) -> Wrong:
    body = {"model": "tiny", "messages": HELLO, **changes}
    return Wrong(path=CHAT, body=body, says=says, param=param)


def completion(says: str, *, param: str | None = None, **changes: Any) -> Wrong:
    body = {"model": "tiny", "prompt": "the", **changes}
    return Wrong(path=COMPLETIONS, body=body, says=says, param=param)


def embedding(says: str, *, param: str | None = None, **changes: Any) -> Wrong:
    body = {"model": "tiny", "input": "the", **changes}
    return Wrong(path=EMBEDDINGS, body=body, says=says, param=param, server="embedding_server")


def prediction(says: str, *, param: str | None = None, **body: Any) -> Wrong:
    return Wrong(path="/predict", body=body, says=says, param=param, server="task_server")


WRONG: dict[str, Wrong] = {
    # the request as such
    "no such route": Wrong(
        path="/v3/chat", status=404, says="There is no route /v3/chat", code="not_found"
    ),
    "wrong method": Wrong(
        path=CHAT, method="GET", status=405, says="does not take GET", code="method_not_allowed"
    ),
    "broken JSON": Wrong(
        path=CHAT, content=b'{"model": ', headers=JSON, says="The body is not valid JSON"
    ),
    "not UTF-8": Wrong(
        path=CHAT, content=b'{"model": "\xff"}', headers=JSON, says="could not be read as JSON"
    ),
    "no body": Wrong(path=CHAT, content=b"", headers=JSON, says="The body is missing"),
    "a list as body": Wrong(path=CHAT, content=b"[1]", headers=JSON, says="The body"),
    "a text as body": Wrong(path=COMPLETIONS, content=b'"hello"', headers=JSON, says="The body"),
    "form content": Wrong(
        path=CHAT,
        content=json.dumps({"model": "tiny", "messages": HELLO}).encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
        status=415,
        says="Content-Type is application/x-www-form-urlencoded; send JSON",
        code="unsupported_media_type",
    ),
    "no content type": Wrong(
        path=EMBEDDINGS, content=b"{}", status=415, says="There is no Content-Type"
    ),
    "body too large": Wrong(
        path="/predict",
        content=b"x" * 20_001,
        headers=JSON,
        status=413,
        says="larger than 20000 bytes",
        code="request_too_large",
        server="task_server",
    ),
    # which model, which route
    "another model": Wrong(
        path=CHAT,
        body={"model": "gpt-4o", "messages": HELLO},
        status=404,
        says="The model 'gpt-4o' does not exist; this server has tiny, also-tiny",
        param="model",
        code="model_not_found",
    ),
    "no such model to retrieve": Wrong(
        path="/v1/models/org/name",
        method="GET",
        status=404,
        says="The model 'org/name' does not exist",
        param="model",
        code="model_not_found",
    ),
    "embeddings of a chat model": Wrong(
        path=EMBEDDINGS,
        body={"model": "tiny", "input": "the"},
        says="served for TextGeneration and does not embed text; use /v1/chat/completions",
        code="task_not_supported",
    ),
    "chat with an embedder": Wrong(
        path=CHAT,
        body={"model": "tiny", "messages": HELLO},
        says="served for Embeddings and does not generate text; use /v1/embeddings",
        code="task_not_supported",
        server="embedding_server",
    ),
    "prediction of a chat model": Wrong(
        path="/predict", body={"inputs": "the"}, says="use /v1/chat", code="task_not_supported"
    ),
    "no model": Wrong(path=CHAT, body={"messages": HELLO}, says="model is missing", param="model"),
    "a token that the model does not have": embedding(
        "input.0 names token 1000000, and the model has", param="input.0", input=[[1_000_000]]
    ),
    # chat
    "no messages": Wrong(
        path=CHAT, body={"model": "tiny"}, says="messages is missing", param="messages"
    ),
    "empty messages": chat("messages", param="messages", messages=[]),
    "unknown role": chat(
        "messages.0.role", param="messages.0.role", messages=[{"role": "robot", "content": "x"}]
    ),
    "message without content": chat(
        "messages.0.content is missing", param="messages.0.content", messages=[{"role": "user"}]
    ),
    "image in a message": chat(
        "part 0 is of type image_url; this model reads only text parts",
        param="messages.0.content",
        messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    ),
    "audio": chat("modalities is not supported", param="modalities", modalities=["audio"]),
    "misspelt field": chat(
        "temprature is not a known field; did you mean temperature?",
        param="temprature",
        temprature=0.5,
    ),
    "invented field": chat("frobnicate is not a known field; leave it away", frobnicate=1,
                           param="frobnicate"),
    "too hot": chat("temperature", param="temperature", temperature=2.5),
    "negative temperature": chat("temperature", param="temperature", temperature=-1),
    "temperature as text": chat("temperature", param="temperature", temperature="warm"),
    "top_p of zero": chat("top_p", param="top_p", top_p=0),
    "penalty out of bounds": chat("presence_penalty", param="presence_penalty",
                                  presence_penalty=3),
    "no choices": chat("n: ", param="n", n=0),
    "too many choices": chat("n: ", param="n", n=1000),
    "max_tokens of zero": chat("max_tokens", param="max_tokens", max_tokens=0),
    "too many tokens": chat(
        "asks for 500 more; the model holds 256 in all", param="max_tokens", max_tokens=500
    ),
    "too many new tokens": chat(
        "the model holds 256 in all", param="max_completion_tokens", max_completion_tokens=500
    ),
    "long messages": chat(
        "Shorten the prompt", param="messages",
        messages=[{"role": "user", "content": "hello " * 300}],
    ),
    "top_logprobs alone": chat(
        "top_logprobs needs logprobs: true", param="top_logprobs", top_logprobs=2
    ),
    "too many top_logprobs": chat("top_logprobs", param="top_logprobs", logprobs=True,
                                  top_logprobs=21),
    "empty stop string": chat("stop.0", param="stop.0", stop=[""]),
    "stop as number": chat("stop", param="stop", stop=5),
    "too many stop strings": chat("stop", param="stop", stop=["x"] * 17),
    "bias of an unknown token": chat(
        "logit_bias names token 99999", param="logit_bias.99999", logit_bias={"99999": 1}
    ),
    "bias out of bounds": chat("logit_bias", param="logit_bias.5", logit_bias={"5": 101}),
    "two ways to end": chat(
        "add_generation_prompt must be false",
        param="continue_final_message",
        continue_final_message=True,
    ),
    "template's own argument": chat(
        "chat_template_kwargs must not set tokenize",
        param="chat_template_kwargs",
        chat_template_kwargs={"tokenize": False},
    ),
    "seed as text": chat("seed", param="seed", seed="abc"),
    "stream as number": chat("stream", param="stream", stream=7),
    # completions
    "empty prompt": completion("The prompt is empty", param="prompt.0", prompt=""),
    "no prompts": completion(
        "prompt: must be a text, a list of texts", param="prompt", prompt=[]
    ),
    "prompt of numbers and texts": completion("prompt: must be", param="prompt",
                                              prompt=[1, "a"]),
    "unknown token": completion("names token 99999", param="prompt.0", prompt=[99999]),
    "negative token": completion("names token -1", param="prompt.0", prompt=[-1]),
    "long prompt": completion("the model holds 256 in all", param="prompt", prompt=[5] * 256),
    "suffix": completion("suffix is not supported", param="suffix", suffix="end"),
    "nothing to do": completion("only with echo", param="max_tokens", max_tokens=0),
    "too many logprobs": completion("logprobs", param="logprobs", logprobs=50),
    # generate
    "generate without inputs": Wrong(
        path="/generate", body={}, says="inputs is missing", param="inputs"
    ),
    "generate with a wrong parameter": Wrong(
        path="/generate",
        body={"inputs": "the", "parameters": {"max_new_tokens": -1}},
        says="parameters.max_new_tokens",
        param="parameters.max_new_tokens",
    ),
    # embeddings
    "empty input": embedding("input.1 is empty", param="input.1", input=["a", ""]),
    "no input": embedding("input: must be", param="input", input=[]),
    "input of another type": embedding("input: must be", param="input", input={"a": 1}),
    "long input": embedding(
        "tokens, and the model takes at most 32", param="input.0", input="quick " * 100
    ),
    "fewer dimensions": embedding(
        "have 32 dimensions and cannot be cut to 8", param="dimensions", dimensions=8
    ),
    "unknown encoding": embedding("encoding_format", param="encoding_format",
                                  encoding_format="int8"),
    # tasks
    "prediction without inputs": prediction("inputs is missing", param="inputs"),
    "prediction of an empty text": prediction("inputs", param="inputs", inputs=""),
    "prediction of a number": prediction("inputs", param="inputs", inputs=5),
    "prediction with an unknown parameter": prediction(
        "did you mean top_k?", param="top_q", inputs="the", parameters={"top_q": 1}
    ),
    "prediction with a wrong parameter": prediction(
        "parameters.top_k", param="parameters.top_k", inputs="the", parameters={"top_k": 0}
    ),
    "prediction of a long text": prediction(
        "and the model takes at most 64", param="inputs", inputs="quick " * 100
    ),
    "an image for a text model": Wrong(
        path="/predict",
        content=b"\x89PNG",
        headers={"content-type": "image/png"},
        status=415,
        says="Content-Type is image/png; send application/json",
        server="task_server",
    ),
    "too large a batch": Wrong(
        path="/batch-predict",
        body={"inputs": ["the"] * 11},
        says="inputs has 11 entries; at most 10",
        param="inputs",
        server="task_server",
    ),
    "an empty batch": Wrong(
        path="/batch-predict", body={"inputs": []}, says="inputs", param="inputs",
        server="task_server",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_request_is_refused_with_a_sentence(wrong, request):
    server: RunningServer = request.getfixturevalue(wrong.server)
    content = wrong.content
    headers = {**wrong.headers}
    if wrong.body is not None:
        content, headers = json.dumps(wrong.body).encode(), {**JSON, **headers}
    response = server.client.request(wrong.method, wrong.path, content=content, headers=headers)
    assert response.status_code == wrong.status, response.text
    error = response.json()["error"]
    assert wrong.says in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == wrong.param
    if wrong.code:
        assert error["code"] == wrong.code
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
    assert response.headers["x-model-revision"] == "5d9f7c1a"


def test_after_all_of_them_the_servers_still_answer(chat_server, embedding_server, task_server):
    assert chat_server.post("/generate", inputs="the").status_code == 200
    assert embedding_server.post(EMBEDDINGS, model="tiny", input="the").status_code == 200
    assert task_server.post("/predict", inputs="the").status_code == 200


def test_a_body_without_announced_size_is_bounded_too(task_server):
    def chunks():
        for _ in range(30):
            yield b"x" * 1000

    response = task_server.client.post("/batch-predict", content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"prediction": {"type": "content", "content": "x"}, "parallel_tool_calls": True},
        {"functions": None, "audio": None, "modalities": ["text"]},
        {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_fields_that_change_nothing_are_accepted(chat_server, fields):
    response = chat_server.post(CHAT, model="tiny", messages=HELLO, max_tokens=1, **fields)
    assert response.status_code == 200, response.text


def test_a_request_id_of_the_client_is_kept_unless_it_could_forge_a_log(chat_server):
    good = chat_server.client.get("/livez", headers={"x-request-id": "trace-1"})
    assert good.headers["x-request-id"] == "trace-1"
    bad = chat_server.client.get("/livez", headers={"x-request-id": "a b\tc"})
    assert bad.headers["x-request-id"].startswith("req-")


def test_media_that_is_none_is_refused(image_server):
    wrong = base64.b64encode(b"no image").decode()
    response = image_server.post("/predict", inputs=wrong)
    assert response.status_code == 400
    assert "no image that can be read (8 bytes)" in response.json()["error"]["message"]
    response = image_server.post("/predict", inputs="https://example.com/cat.png")
    assert response.status_code == 400
    assert "URLs are not fetched" in response.json()["error"]["message"]
    response = image_server.client.post(
        "/predict", content=b"x", headers={"content-type": "text/plain"}
    )
    assert response.status_code == 415
    assert "such as image/png" in response.json()["error"]["message"]
