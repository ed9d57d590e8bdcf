"""`python -m bench.soak --minutes 20`: mixed load on a real server, in which every answer is known.

Three small models of random weights in one process, one of which breaks on one word. Clients ask
chats (whole, streamed, repeated), completions, embeddings, predictions and batches of them; they
go away in the middle, read slowly, send what is wrong, have no key or one with a limit; and each
second comes an input on which the model breaks. Before the load every question is asked once,
alone: an answer that differs is swapped if it is another question's, and wrong if it is nobody's.

Readiness is asked all the time: the server can answer from the first 200 on, so that every other
answer until SIGTERM is a lie, and so is 200 after it. Memory is the process's resident size.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from bench.command_line import run_benchmark
from bench.fronting.asking import client_of
from bench.fronting.folders import MINILM, Ability, Kind, make_missing
from bench.fronting.serving import Served, ServerFailed, extra, process
from bench.results_file import Result, Target, versions
from bench.serving.processes import resident_megabytes
from bench.soaking.asking import Asker
from bench.soaking.preparing import prepare, write_keys
from bench.soaking.scripts import ask_until, poison, run
from bench.soaking.tally import Fault, MemoryCurve, Tally

_KINDS = {ability: Kind(ability=ability, size=MINILM) for ability in Ability}
_SECOND = 1.0
_READINESS_SECONDS = 0.5
# A server whose loop stands still for so long would be taken out of service.
_READINESS_LIMIT_SECONDS = 10.0
_REPORT_SECONDS = 15
_SETTLE_SECONDS = 30
# Allocators keep a little more after each new maximum; a leak of 1 KB a request would be 50.
_MOST_GROWTH_MEGABYTES = 32
_SOFTWARE = ("torch", "transformers", "fastapi", "uvicorn", "uvloop", "pydantic", "aiohttp")


def main() -> int:
    arguments = _parser().parse_args()
    return run_benchmark(_Soak(arguments).run(), ServerFailed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=20, help="length of the load (20)")
    add("--clients", type=int, default=16, help="requests at the same time (16)")
    add("--seed", type=int, default=1, help="decides what each client does (1)")
    add("--no-result", action="store_true", help="write no result file")
    return parser


@dataclass(slots=True)
class _Watch:
    """What is seen from outside while the load runs."""

    memory: MemoryCurve = field(default_factory=MemoryCurve)
    polls: int = 0
    lies: list[str] = field(default_factory=list)


class _Soak:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._started = perf_counter()
        self._tally = Tally()
        self._watch = _Watch()

    async def run(self) -> int:
        await make_missing(list(_KINDS.values()))
        with tempfile.TemporaryDirectory() as folder:
            keys = write_keys(Path(folder))
            async with _server(Path(folder)) as served:
                asker = Asker(served.url, keys, self._tally, seed=self._arguments.seed)
                async with asker.open():
                    self._say("asking every question once")
                    await prepare(asker)
                    seconds = await self._load(asker, served)
                    left = await self._left_running(served)
                    await self._check_end(served)
        return self._finish(seconds, left)

    async def _load(self, asker: Asker, served: Served) -> float:
        """Until the minutes are over, and every client has its last answer."""
        self._say(f"{self._arguments.clients} clients for {self._arguments.minutes:g} minutes")
        stopped, began = asyncio.Event(), perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._arguments.clients):
                group.create_task(ask_until(asker, stopped))
            group.create_task(_each_second(asker, stopped))
            group.create_task(self._watch_readiness(served, stopped))
            group.create_task(self._watch_memory(served, stopped))
            await _wait(stopped, 60 * self._arguments.minutes)
            stopped.set()
        return perf_counter() - began

    async def _watch_memory(self, served: Served, stopped: asyncio.Event) -> None:
        began, reported = perf_counter(), 0.0
        while not stopped.is_set():
            seconds, megabytes = perf_counter() - began, resident_megabytes(served.pid)
            self._watch.memory.note(seconds, megabytes)
            if seconds - reported >= _REPORT_SECONDS:
                reported = seconds
                self._say(self._progress(megabytes))
            await _wait(stopped, _SECOND)

    async def _watch_readiness(self, served: Served, stopped: asyncio.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=_READINESS_LIMIT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not stopped.is_set():
                status = await _readiness(session, served)
                self._watch.polls += 1
                if status != "200":
                    self._watch.lies.append(f"while it answered: {status}")
                await _wait(stopped, _READINESS_SECONDS)

    async def _left_running(self, served: Served) -> float:
        """What the models still compute when nobody waits for anything."""
        async with client_of(served.url) as client:
            for _ in range(_SETTLE_SECONDS):
                if not await client.metric("modelserver_running"):
                    break
                await asyncio.sleep(_SECOND)
            return await client.metric("modelserver_running")

    async def _check_end(self, served: Served) -> None:
        """After SIGTERM it still answers for a while, and says that it is not ready."""
        os.kill(served.pid, signal.SIGTERM)
        timeout = aiohttp.ClientTimeout(total=_READINESS_LIMIT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            deadline = perf_counter() + _SECOND
            while (status := await _readiness(session, served)) == "200":
                if perf_counter() > deadline:
                    break
                await asyncio.sleep(0.02)
        if status != "503":
            self._watch.lies.append(f"a second after SIGTERM: {status}")

    def _finish(self, seconds: float, left: float) -> int:
        figures = self._figures(seconds, left)
        for name, value in figures.items():
            print(f"  {name:48} {value:>12,}")
        for sentence in [*self._tally.sentences, *self._watch.lies[:10]]:
            print(f"  ! {sentence}")
        targets = _targets(figures)
        if not self._arguments.no_result:
            self._say(f"wrote {self._result(figures, targets).write()}")
        return 0 if all(target.holds for target in targets.values()) else 1

    def _figures(self, seconds: float, left: float) -> dict[str, float]:
        tally = self._tally
        return {
            "soak_minutes": round(seconds / 60, 2),
            "soak_requests": tally.requests.total(),
            **{f"soak_{fault}": tally.faults[fault] for fault in Fault},
            "soak_readiness_lies": len(self._watch.lies),
            "soak_readiness_polls": self._watch.polls,
            "soak_left_running": left,
            **self._watch.memory.figures(),
        }

    def _result(self, figures: Mapping[str, float], targets: Mapping[str, Target]) -> Result:
        tally, arguments = self._tally, self._arguments
        return Result(
            bench="soak",
            command=f"python -m bench.soak --minutes {arguments.minutes:g}",
            software=versions(_SOFTWARE),
            figures=figures,
            targets=targets,
            rounds=[
                {
                    "clients": arguments.clients,
                    "seed": arguments.seed,
                    "requests": dict(tally.requests.most_common()),
                    "statuses": {str(k): n for k, n in tally.statuses.most_common()},
                    "caches": dict(tally.caches.most_common()),
                    "faults": tally.sentences,
                    "lies": self._watch.lies[:10],
                }
            ],
            note=(
                f"{arguments.clients} clients without pause; models of 23 to 35 million random "
                "parameters for classification, embeddings and generation in one process. Wrong "
                "is an answer that is nobody's, swapped one that is another question's. Memory "
                "growth is the median of the last tenth over that of the first tenth after a "
                "quarter for warm-up. Load and server share the machine."
            ),
        )

    def _progress(self, megabytes: float) -> str:
        faults = ", ".join(f"{n} {fault}" for fault, n in self._tally.faults.items()) or "no faults"
        return (
            f"{self._tally.requests.total()} requests, {faults}, {len(self._watch.lies)} lies, "
            f"{megabytes:.0f} MB"
        )

    def _say(self, text: str) -> None:
        print(f"{perf_counter() - self._started:5.0f} s  {text}", flush=True)


def _server(folder: Path) -> contextlib.AbstractAsyncContextManager[Served]:
    primary = _KINDS[Ability.CLASSIFICATION]
    extras = [extra(_KINDS[it], preload=True) for it in (Ability.EMBEDDINGS, Ability.GENERATION)]
    settings: dict[str, Any] = {
        "model_directory": primary.folder,
        "served_name": primary.name,
        "models": extras,
        "access_keys_directory": folder,
        "log_level": "warning",
    }
    return process("soak", ["-m", "bench.soaking.server"], settings, model=primary.name)


async def _each_second(asker: Asker, stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        await run(asker, poison)
        await _wait(stopped, _SECOND)


async def _readiness(session: aiohttp.ClientSession, served: Served) -> str:
    try:
        async with session.get(f"{served.url}/readyz") as response:
            return str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return repr(error)


async def _wait(stopped: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), seconds)


def _targets(figures: Mapping[str, float]) -> dict[str, Target]:
    none = [*(f"soak_{fault}" for fault in Fault), "soak_readiness_lies", "soak_left_running"]
    growth = "soak_memory_growth_megabytes"
    return {
        **{name: Target(bound="0", holds=figures[name] == 0) for name in none},
        growth: Target(
            bound=f"<= {_MOST_GROWTH_MEGABYTES}", holds=figures[growth] <= _MOST_GROWTH_MEGABYTES
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
