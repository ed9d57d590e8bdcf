"""`modelserver-runtime fetch` and `resolve`: what they do, with their progress while they do it."""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from modelserver_runtime.app.loader import hub_of, source_of
from modelserver_runtime.artifacts import (
    ArtifactSummary,
    Progress,
    fetch,
    print_progress,
    resolve,
    serve_progress,
)
from modelserver_runtime.settings import Settings

_TERMINATED = 143

type Say = Callable[[str], None]


def run_artifact_command(command: str, settings: Settings, say: Say) -> dict[str, Any]:
    """The summary of what was fetched or resolved."""
    signal.signal(signal.SIGTERM, _terminate)
    progress = Progress()
    with (
        serve_progress(progress, host=settings.host, port=settings.port),
        print_progress(progress, say),
    ):
        work = _fetch if command == "fetch" else _resolve
        return work(settings, progress).as_json()


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    """The first process of a container gets no default handler."""
    os._exit(_TERMINATED)


def _fetch(settings: Settings, progress: Progress) -> ArtifactSummary:
    return fetch(
        source_of(settings),
        directory=settings.model_directory,
        hub=hub_of(settings),
        progress=progress,
    )


def _resolve(settings: Settings, progress: Progress) -> ArtifactSummary:
    return resolve(source_of(settings), hub=hub_of(settings), progress=progress)
