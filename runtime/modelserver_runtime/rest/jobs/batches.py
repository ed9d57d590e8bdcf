"""Batches: many requests of one file, answered when the model has time.

validating ─▶ in_progress ─▶ finalizing ─▶ completed
     └▶ failed      ├▶ cancelling ─▶ cancelled
                    └▶ expired
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.types import ASGIApp

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import Conflict, Overloaded, RequestFailure, ResourceNotFound
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.jobs.calls import Answer, Call, perform_patiently
from modelserver_runtime.rest.jobs.files import FileStore, FileWriter, StoredFile
from modelserver_runtime.rest.jobs.lines import Line, LineError, answered, read_lines, unanswered
from modelserver_runtime.rest.jobs.owner import Owner
from modelserver_runtime.settings import Settings

log = logging.getLogger(__name__)

WINDOW_SECONDS = 24 * 3600
# Batches of all owners that are known, ended ones included; of those the oldest are forgotten.
MOST_BATCHES = 1000


class BatchStatus(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """What a client wants; `output_ttl_seconds` is that of the results (None: the server's)."""

    owner: Owner
    endpoint: str
    input_file_id: str
    metadata: Mapping[str, str] | None
    output_ttl_seconds: int | None = None


@dataclass(slots=True, kw_only=True)
class Batch:
    """`times` has the Unix time at which each status was entered."""

    id: str
    order: BatchOrder
    created_at: int
    status: BatchStatus = BatchStatus.VALIDATING
    times: dict[BatchStatus, int] = field(default_factory=dict)
    errors: Sequence[LineError] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_SECONDS


class Batches:
    """Runs each batch in a task of its own; `asgi` answers its requests."""

    def __init__(self, settings: Settings, files: FileStore, wall_clock: Clock) -> None:
        self._settings = settings
        self._files = files
        self._wall_clock = wall_clock
        self._batches: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Whoever waits longest goes next, so batches of several owners advance together.
        self._turns = asyncio.Semaphore(settings.batch_concurrency)

    def start(self, order: BatchOrder, asgi: ASGIApp) -> Batch:
        file = self._files.find(order.owner.tenant, order.input_file_id)
        self._make_room()
        batch = Batch(id=f"batch_{random_hex(12)}", order=order, created_at=int(self._wall_clock()))
        self._batches[batch.id] = batch
        task = asyncio.create_task(self._run(batch, file, asgi))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return batch

    def find(self, tenant: str, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None or batch.order.owner.tenant != tenant:
            raise ResourceNotFound(f"There is no batch {batch_id}; GET /v1/batches lists yours")
        return batch

    def list(self, tenant: str) -> list[Batch]:
        """The newest first."""
        batches = reversed(self._batches.values())
        return [batch for batch in batches if batch.order.owner.tenant == tenant]

    def cancel(self, tenant: str, batch_id: str) -> Batch:
        batch = self.find(tenant, batch_id)
        if batch.status in ENDED:
            raise Conflict(f"The batch {batch_id} is {batch.status} and cannot be cancelled")
        self._enter(batch, BatchStatus.CANCELLING)
        batch.stop.set()
        return batch

    def _make_room(self) -> None:
        if len(self._batches) < MOST_BATCHES:
            return
        ended = next((b.id for b in self._batches.values() if b.status in ENDED), None)
        if ended is None:
            raise Overloaded(f"{MOST_BATCHES} batches are being computed; wait for one to end")
        del self._batches[ended]

    def _enter(self, batch: Batch, status: BatchStatus) -> None:
        batch.status = status
        batch.times.setdefault(status, int(self._wall_clock()))

    async def _run(self, batch: Batch, file: StoredFile, asgi: ASGIApp) -> None:
        try:
            lines = await self._validated(batch, file)
            if lines:
                await self._compute(batch, lines, asgi)
        except RequestFailure as failure:
            self._fail(batch, [LineError(line=0, code="failed", message=failure.message)])
        except Exception:
            log.exception("The batch %s failed", batch.id)
            message = "the server failed; its log says why"
            self._fail(batch, [LineError(line=0, code="internal_error", message=message)])

    def _fail(self, batch: Batch, errors: Sequence[LineError]) -> None:
        batch.errors = errors
        self._enter(batch, BatchStatus.FAILED)

    async def _validated(self, batch: Batch, file: StoredFile) -> Sequence[Line]:
        content = await self._files.read(file)
        lines, errors = await asyncio.to_thread(
            read_lines, content, batch.order.endpoint, self._settings.max_batch_lines
        )
        if errors:
            self._fail(batch, errors)
            return ()
        batch.total = len(lines)
        if batch.status is BatchStatus.VALIDATING:
            self._enter(batch, BatchStatus.IN_PROGRESS)
        return lines

    async def _compute(self, batch: Batch, lines: Sequence[Line], asgi: ASGIApp) -> None:
        results = _Results(self._files, batch)
        try:
            waiting = iter(lines)
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._settings.batch_concurrency, len(lines))):
                    workers.create_task(self._work(batch, waiting, results, asgi))
        except ExceptionGroup as group:
            results.discard()
            raise group.exceptions[0] from group
        self._end(batch, results)

    async def _work(
        self, batch: Batch, waiting: Iterator[Line], results: "_Results", asgi: ASGIApp
    ) -> None:
        for line in waiting:
            if (reason := self._stopped(batch)) is not None:
                results.skip(line, reason)
                continue
            call = Call(path=batch.order.endpoint, content=line.body, owner=batch.order.owner)
            async with self._turns:
                answer = await perform_patiently(asgi, call, batch.stop)
            results.add(line, answer)

    def _stopped(self, batch: Batch) -> str | None:
        if batch.stop.is_set():
            return "batch_cancelled"
        return "batch_expired" if self._wall_clock() >= batch.expires_at else None

    def _end(self, batch: Batch, results: "_Results") -> None:
        self._enter(batch, BatchStatus.FINALIZING)
        results.finish()
        if batch.stop.is_set():
            self._enter(batch, BatchStatus.CANCELLED)
        elif results.has_expired:
            self._enter(batch, BatchStatus.EXPIRED)
        else:
            self._enter(batch, BatchStatus.COMPLETED)


_REASONS = {
    "batch_cancelled": "the batch was cancelled before this request was begun",
    "batch_expired": "the batch was not done within 24 hours; send this request again",
}


class _Results:
    """The two files of a batch; each is there only if it has lines."""

    def __init__(self, files: FileStore, batch: Batch) -> None:
        self._files = files
        self._batch = batch
        self._output: FileWriter | None = None
        self._errors: FileWriter | None = None
        self.has_expired = False

    def add(self, line: Line, answer: Answer) -> None:
        record = answered(line, answer)
        if answer.is_success:
            self._output = self._output or self._writer("output")
            self._output.write(record)
            self._batch.completed += 1
        else:
            self._write_error(record)

    def skip(self, line: Line, reason: str) -> None:
        self.has_expired = self.has_expired or reason == "batch_expired"
        self._write_error(unanswered(line, reason, _REASONS[reason]))

    def _write_error(self, record: bytes) -> None:
        self._errors = self._errors or self._writer("error")
        self._errors.write(record)
        self._batch.failed += 1

    def _writer(self, kind: str) -> FileWriter:
        order = self._batch.order
        return self._files.writer(
            order.owner.tenant,
            f"{self._batch.id}_{kind}.jsonl",
            "batch_output",
            order.output_ttl_seconds,
        )

    def finish(self) -> None:
        if self._output is not None:
            self._batch.output_file_id = self._output.finish().id
        if self._errors is not None:
            self._batch.error_file_id = self._errors.finish().id

    def discard(self) -> None:
        for writer in (self._output, self._errors):
            if writer is not None:
                writer.discard()
