"""All that the server keeps for clients."""

from dataclasses import dataclass

from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.rest.jobs.background import BackgroundJobs
from modelserver_runtime.rest.jobs.batches import Batches
from modelserver_runtime.rest.jobs.files import FileStore
from modelserver_runtime.rest.jobs.responses import ResponseStore
from modelserver_runtime.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    files: FileStore
    batches: Batches
    background: BackgroundJobs
    responses: ResponseStore


def create_jobs(settings: Settings, wall_clock: Clock) -> Jobs:
    files = FileStore(settings, wall_clock)
    return Jobs(
        files=files,
        batches=Batches(settings, files, wall_clock),
        background=BackgroundJobs(settings, wall_clock),
        responses=ResponseStore(settings, wall_clock),
    )
