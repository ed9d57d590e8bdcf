"""Real server processes of the runtime, ready to be asked."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fronting.folders import Kind
from bench.serving.model_folder import cache_folder
from bench.serving.processes import running

_START_LIMIT_SECONDS = 180.0
_READY = re.compile(r"^Ready: .* try (http://\S+)/docs$", re.MULTILINE)
_RUNTIME = "modelserver_runtime"


class ServerFailed(Exception):
    """A server does not start, or does not answer as it must; the sentence says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server; `model` is the name of its primary."""

    url: str
    pid: int
    model: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)


@contextlib.asynccontextmanager
async def runtime(
    name: str,
    primary: Kind,
    *,
    extras: Sequence[Mapping[str, object]] = (),
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Served]:
    """`modelserver-runtime serve` of one model and perhaps more; `name` is for its log."""
    given = {
        "model_directory": primary.folder,
        "served_name": primary.name,
        "models": extras,
        **(settings or {}),
    }
    async with process(name, ["-m", _RUNTIME, "serve"], given, model=primary.name) as served:
        yield served


def extra(kind: Kind, *, preload: bool) -> dict[str, object]:
    """An entry of MODELSERVER_MODELS."""
    return {
        "name": kind.name,
        "directory": str(kind.folder),
        "task": kind.ability.value,
        "preload": preload,
    }


@contextlib.asynccontextmanager
async def process(
    name: str, arguments: Sequence[str], settings: Mapping[str, object], *, model: str
) -> AsyncIterator[Served]:
    """A process of this Python that serves on a free port, and says so when it is ready."""
    log = cache_folder() / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *arguments]
    async with running(command, environment=_environment(settings), log=log) as child:
        yield Served(url=await _ready_url(child, log), pid=child.pid, model=model, log=log)


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Nothing of the caller's own settings, and nothing over the network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODELSERVER_", "HF_SERVER_"))}
    own = {
        "port": 0,
        "termination_log": cache_folder() / "termination.json",
        **settings,
    }
    return {
        **kept,
        "HF_HUB_OFFLINE": "1",
        # As in bench.runtime: threads that spin are many times slower on a busy machine.
        "OMP_WAIT_POLICY": "passive",
        **{f"MODELSERVER_{key.upper()}": _written(value) for key, value in own.items()},
    }


def _written(value: object) -> str:
    return json.dumps(value) if isinstance(value, (list, tuple)) else str(value)


async def _ready_url(child: asyncio.subprocess.Process, log: Path) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_LIMIT_SECONDS):
            while child.returncode is None:
                if found := _READY.search(_text(log)):
                    return found[1]
                await asyncio.sleep(0.05)
    end = "\n".join(_text(log).splitlines()[-15:])
    how = "is not ready in time" if child.returncode is None else f"ended with {child.returncode}"
    raise ServerFailed(f"The server {how}; the end of {log}:\n{end}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")
