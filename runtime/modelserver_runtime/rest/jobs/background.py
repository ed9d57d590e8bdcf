"""Requests whose answer is fetched later."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import ASGIApp

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import Overloaded, ResourceNotFound
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.jobs.calls import Answer, Call, perform_patiently
from modelserver_runtime.settings import Settings

type JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]


@dataclass(slots=True, kw_only=True)
class Job:
    """`answer` is there once the job has ended. Times are Unix times, in seconds."""

    id: str
    call: Call
    created_at: int
    status: JobStatus = "queued"
    ended_at: int | None = None
    answer: Answer | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class BackgroundJobs:
    """Keeps what was answered last; the oldest of the others goes when there are too many."""

    def __init__(self, settings: Settings, wall_clock: Clock) -> None:
        self._settings = settings
        self._wall_clock = wall_clock
        self._jobs: dict[str, Job] = {}
        self._turns = asyncio.Semaphore(settings.batch_concurrency)

    def start(
        self, call: Call, asgi: ASGIApp, *, on_end: Callable[[Job], None] = lambda _: None
    ) -> Job:
        self._make_room()
        now = int(self._wall_clock())
        job = Job(id=f"job_{random_hex(12)}", call=call, created_at=now)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, asgi, on_end))
        return job

    def cancel(self, job: Job) -> None:
        """Ends a job that has not ended; what it has computed is lost."""
        if job.ended_at is None and job.task is not None:
            job.task.cancel()
            self._end(job, "cancelled")

    def find(self, tenant: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.call.owner.tenant != tenant:
            raise ResourceNotFound(f"There is no job {job_id}, or it was forgotten since then")
        return job

    async def _run(self, job: Job, asgi: ASGIApp, on_end: Callable[[Job], None]) -> None:
        async with self._turns:
            job.status = "running"
            job.answer = await perform_patiently(asgi, job.call, job.stop)
        self._end(job, "completed" if job.answer.is_success else "failed")
        on_end(job)

    def _end(self, job: Job, status: JobStatus) -> None:
        job.status = status
        job.ended_at = int(self._wall_clock())
        job.task = None

    def _make_room(self) -> None:
        oldest_wanted = self._wall_clock() - self._settings.stored_responses_ttl_seconds
        ended = [job for job in self._jobs.values() if job.ended_at is not None]
        for job in [job for job in ended if (job.ended_at or 0) < oldest_wanted]:
            del self._jobs[job.id]
        if len(self._jobs) < self._settings.max_stored_responses:
            return
        oldest = next((job for job in self._jobs.values() if job.ended_at is not None), None)
        if oldest is None:
            raise Overloaded(
                f"{len(self._jobs)} jobs are waiting or running; wait until one has ended"
            )
        del self._jobs[oldest.id]
