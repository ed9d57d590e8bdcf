"""Files, batches and jobs: through the official client, and their bounds."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from modelserver_runtime.errors import RequestTooLarge, ResourceNotFound
from modelserver_runtime.rest.jobs.batches import Batches, BatchOrder, BatchStatus
from modelserver_runtime.rest.jobs.files import FileStore
from modelserver_runtime.rest.jobs.lines import read_lines
from modelserver_runtime.rest.jobs.owner import Owner
from support.runtime_server import RunningServer, settings_for
from support.waiting import wait_until

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(chat_server: RunningServer) -> OpenAI:
    return OpenAI(base_url=f"{chat_server.url}/v1", api_key="none", max_retries=0)


def line(custom_id: str, url: str = CHAT, **body: Any) -> dict[str, Any]:
    given = {"model": "tiny", "messages": HELLO, "max_tokens": 3, "temperature": 0, **body}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": given}


def as_file(lines: list[Any]) -> bytes:
    return b"\n".join(json.dumps(entry).encode() for entry in lines)


def upload(client: OpenAI, lines: list[Any]) -> Any:
    return client.files.create(file=("in.jsonl", as_file(lines)), purpose="batch")


def ended(client: OpenAI, batch: Any) -> Any:
    def look() -> Any:
        found = client.batches.retrieve(batch.id)
        return found if found.status in {"completed", "failed", "cancelled", "expired"} else None

    return wait_until(look, timeout=30, what="the batch has ended", interval=0.02)


def run(client: OpenAI, lines: list[Any], endpoint: str = CHAT) -> Any:
    file = upload(client, lines)
    batch = client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"a": "b"}
    )
    return ended(client, batch)


def records(client: OpenAI, file_id: str) -> dict[str, Any]:
    text = client.files.content(file_id).text
    return {entry["custom_id"]: entry for entry in map(json.loads, text.splitlines())}


def test_a_batch_answers_each_line_and_survives_bad_ones(client):
    direct = client.chat.completions.create(**line("x")["body"])
    lines = [line(str(number)) for number in range(8)]
    lines[3] = line("3", model="nobody")
    lines[5] = line("5", temperature=9)
    batch = run(client, lines)
    assert batch.status == "completed"
    assert batch.metadata == {"a": "b"}
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (8, 6, 2)
    good, bad = records(client, batch.output_file_id), records(client, batch.error_file_id)
    assert good.keys() | bad.keys() == {str(number) for number in range(8)}
    for entry in good.values():
        body = entry["response"]["body"]
        assert body["choices"][0]["message"]["content"] == direct.choices[0].message.content
        assert entry["response"]["request_id"]
    assert bad["3"]["response"]["status_code"] == 404
    assert "temperature" in bad["5"]["response"]["body"]["error"]["message"]
    assert batch.in_progress_at
    assert batch.completed_at >= batch.created_at


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "the", "messages": None}),
        ("/v1/responses", {"input": "hello", "messages": None, "max_tokens": None}),
    ],
)
def test_other_routes_have_batches_too(client, endpoint, body):
    batch = run(client, [line("a", endpoint, **body)], endpoint)
    assert batch.request_counts.completed == 1, client.files.content(batch.error_file_id).text


def test_a_file_that_is_no_batch_fails_with_every_mistake(client):
    bad = [
        "text",
        {"custom_id": "a"},
        line("b", "/v1/completions"),
        line("c"),
        line("c"),
        line("d", stream=True),
        {**line("e"), "body": 5},
        {**line("f"), "custom_id": 5},
    ]
    batch = run(client, bad)
    assert batch.status == "failed"
    said = {error.line: error.message for error in batch.errors.data}
    assert said == {
        1: "must be a JSON object",
        2: "method must be POST, not None",
        3: "url must be /v1/chat/completions, as the batch says",
        5: "custom_id 'c' is used twice",
        6: "body must not ask for a stream",
        7: "body must be a JSON object",
        8: "custom_id must be a text that is not empty",
    }
    assert batch.output_file_id is None


def test_broken_lines_and_too_many_lines():
    _, [error] = read_lines(b'{"custom_id": ', CHAT, 10)
    assert error.message.startswith("is not valid JSON")
    _, [error] = read_lines(b"\n \n", CHAT, 10)
    assert error.message == "the file has no requests"
    _, [error] = read_lines(as_file([line(str(number)) for number in range(4)]), CHAT, 3)
    assert (error.line, error.message) == (4, "more than 3 requests; split it")
    _, errors = read_lines(b"x\n" * 500, CHAT, 3)
    assert len(errors) == 100
    lines, errors = read_lines(as_file([line("a"), line("b")]), CHAT, 2)
    assert not errors
    assert [entry.custom_id for entry in lines] == ["a", "b"]


def test_files_are_listed_read_and_deleted(client):
    files = [upload(client, [line(str(number))]) for number in range(3)]
    listed = [file.id for file in client.files.list(limit=2)]  # fetches page after page
    assert listed[:3] == [file.id for file in reversed(files)]
    assert client.files.retrieve(files[0].id) == files[0]
    assert client.files.content(files[0].id).content == as_file([line("0")])
    assert client.files.delete(files[0].id).deleted
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        client.files.retrieve(files[0].id)
    assert files[0].id not in [file.id for file in client.files.list(purpose="batch")]
    assert files[1].expires_at > files[1].created_at


def test_a_file_may_expire_earlier(client):
    file = client.files.create(
        file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600


def test_batches_are_listed(client):
    batch = run(client, [line("a")])
    page = client.batches.list(limit=1)
    assert page.data[0].id == batch.id
    assert len(list(client.batches.list(limit=1))) >= 2
    with pytest.raises(openai.ConflictError, match="is completed and cannot be cancelled"):
        client.batches.cancel(batch.id)


class _Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def store(directory: Path, time: _Time | None = None, **changes: Any) -> FileStore:
    settings = settings_for(directory, files_directory=directory, **changes)
    return FileStore(settings, time or _Time())


async def test_files_are_bounded_in_size_and_leave_nothing_behind(tmp_path):
    files = store(tmp_path, max_files_bytes=20_000)
    kept = await files.add("me", "a", "batch", b"x" * 8000)
    with pytest.raises(RequestTooLarge, match="8000 bytes do not fit: files take"):
        await files.add("me", "b", "batch", b"x" * 8000)
    assert len(list(tmp_path.rglob("file-*"))) == 1
    files.delete("me", kept.id)
    assert not list(tmp_path.rglob("file-*"))
    await files.add("me", "b", "batch", b"x" * 8000)


async def test_empty_files_count_too(tmp_path):
    files = store(tmp_path, max_files_bytes=20_000)
    for name in "abcd":
        await files.add("me", name, "batch", b"")
    with pytest.raises(RequestTooLarge):
        await files.add("me", "e", "batch", b"")


async def test_a_file_is_its_owners_and_goes_with_time(tmp_path):
    time = _Time()
    files = store(tmp_path, time, files_ttl_seconds=60)
    file = await files.add("me", "a", "batch", b"x", ttl=9999)
    assert file.expires_at == 1060
    with pytest.raises(ResourceNotFound):
        files.find("you", file.id)
    assert files.list("you") == []
    time.now += 61
    assert files.list("me") == []
    assert not list(tmp_path.rglob("file-*"))


class _Model:
    """Answers requests like a server; `statuses` are those of the next answers."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.bodies: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.running = 0
        self.most = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = dict(scope["headers"])
        self.bodies.append((await receive())["body"])
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        await self.may_answer.wait()
        self.running -= 1
        status = self.statuses.pop(0) if self.statuses else 200
        headers = [(b"retry-after-ms", b"1")] if status == 429 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ok": true}'})


async def begin(
    directory: Path, model: _Model, count: int, time: _Time | None = None, **changes: Any
) -> tuple[Batches, Any, FileStore]:
    settings = settings_for(directory, files_directory=directory, **changes)
    clock = time or _Time()
    files = FileStore(settings, clock)
    batches = Batches(settings, files, clock)
    file = await files.add("me", "in", "batch", as_file([line(str(n)) for n in range(count)]))
    owner = Owner(tenant="me", headers=((b"authorization", b"Bearer key"),))
    order = BatchOrder(owner=owner, endpoint=CHAT, input_file_id=file.id, metadata=None)
    return batches, batches.start(order, model), files


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  a batch has no event for each of its changes
            await asyncio.sleep(0.001)


async def until_status(batch: Any, status: BatchStatus) -> None:
    await until(lambda: batch.status is status)


async def test_a_busy_server_is_asked_again(tmp_path):
    model = _Model(429, 503, 504, 200)
    _, batch, _ = await begin(tmp_path, model, 1, batch_concurrency=1)
    model.statuses = [429, 429, 200]
    await until_status(batch, BatchStatus.COMPLETED)
    assert (batch.completed, batch.failed) == (1, 0)
    assert len(model.bodies) == 3


async def test_lines_go_last_with_their_owners_key_and_few_at_a_time(tmp_path):
    model = _Model()
    _, batch, _ = await begin(tmp_path, model, 20, batch_concurrency=3)
    await until_status(batch, BatchStatus.COMPLETED)
    assert model.most == 3
    assert model.headers[b"x-priority"] == b"low"
    assert model.headers[b"authorization"] == b"Bearer key"
    assert len(set(model.bodies)) == 1
    assert batch.completed == 20


async def test_a_cancelled_batch_keeps_what_was_answered(tmp_path):
    model = _Model()
    model.may_answer.clear()
    batches, batch, files = await begin(tmp_path, model, 10, batch_concurrency=2)
    await until(lambda: model.running == 2)
    assert batches.cancel("me", batch.id).status is BatchStatus.CANCELLING
    with pytest.raises(ResourceNotFound):
        batches.cancel("you", batch.id)
    model.may_answer.set()
    await until_status(batch, BatchStatus.CANCELLED)
    assert (batch.total, batch.completed, batch.failed) == (10, 2, 8)
    errors = await files.read(files.find("me", batch.error_file_id))
    assert all(b"batch_cancelled" in text for text in errors.splitlines())


async def test_a_batch_expires_after_its_window(tmp_path):
    model, time = _Model(), _Time()
    model.may_answer.clear()
    _, batch, files = await begin(tmp_path, model, 3, time, batch_concurrency=1)
    await until(lambda: model.running == 1)
    time.now += 24 * 3600
    model.may_answer.set()
    await until_status(batch, BatchStatus.EXPIRED)
    assert (batch.completed, batch.failed) == (1, 2)
    assert b"batch_expired" in await files.read(files.find("me", batch.error_file_id))


async def test_results_that_do_not_fit_fail_the_batch(tmp_path):
    model = _Model()
    _, batch, files = await begin(tmp_path, model, 60, max_files_bytes=19_000)
    await until_status(batch, BatchStatus.FAILED)
    assert "do not fit" in batch.errors[0].message
    assert len(files.list("me")) == 1  # only what was sent


def test_predictions_may_be_jobs(task_server: RunningServer):
    direct = task_server.post("/batch-predict", inputs=["the", ""]).json()
    begun = task_server.post("/batch-predict", inputs=["the", ""], mode="async")
    assert begun.status_code == 202
    job_id = begun.json()["id"]

    def look() -> Any:
        found = task_server.client.get(f"/batch-predict/{job_id}").json()
        return found if found["status"] in {"completed", "failed"} else None

    job = wait_until(look, timeout=30, what="the job has ended", interval=0.02)
    assert job["status"] == "completed"
    assert job["result"] == direct
    assert job["error"] is None
    failing = task_server.post("/batch-predict", inputs=["the"], mode="async", model="nobody")
    job_id = failing.json()["id"]
    job = wait_until(look, timeout=30, what="the job has failed", interval=0.02)
    assert "nobody" in job["error"]["message"]
    assert task_server.client.get("/batch-predict/job_x").status_code == 404
