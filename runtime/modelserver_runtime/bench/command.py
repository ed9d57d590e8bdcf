"""`modelserver-runtime bench`: its flags, its progress, its result."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from modelserver_runtime.bench.asking import Answer, Clock, Plan, run
from modelserver_runtime.bench.report import summarize, table
from modelserver_runtime.errors import InvalidConfiguration

type Say = Callable[[str], None]

_SMALLEST: Mapping[str, int] = {
    "requests": 1,
    "concurrency": 1,
    "max_tokens": 1,
    "prompt_words": 1,
}


def bench(
    flags: Mapping[str, Any], *, key: str, clock: Clock, say: Say, progress_to: TextIO
) -> bool:
    """Whether every request was answered."""
    plan = _plan(flags, key)
    progress = _Progress(plan.requests, progress_to)
    answers, seconds = asyncio.run(run(plan, clock, progress.note))
    progress.end()
    summary = summarize(answers, seconds)
    lines = table(summary) if flags["output"] == "table" else [json.dumps(summary.as_json())]
    for line in lines:
        say(line)
    return not summary.failed


def _plan(flags: Mapping[str, Any], key: str) -> Plan:
    for name, smallest in _SMALLEST.items():
        if flags[name] < smallest:
            flag = "--" + name.replace("_", "-")
            raise InvalidConfiguration(f"{flag} is {flags[name]}; it must be {smallest} or more")
    names = ("model", "requests", "concurrency", "max_tokens", "prompt_words", "same_prompt")
    return Plan(url=str(flags["url"]).rstrip("/"), key=key, **{name: flags[name] for name in names})


class _Progress:
    """One line that is written again and again; nothing where nobody looks."""

    def __init__(self, requests: int, stream: TextIO) -> None:
        self._requests = requests
        self._stream = stream if stream.isatty() else None
        self._done = self._failed = 0

    def note(self, answer: Answer) -> None:
        self._done += 1
        self._failed += bool(answer.failure)
        if self._stream is not None:
            failed = f", {self._failed} failed" if self._failed else ""
            self._stream.write(f"\r{self._done} of {self._requests} answered{failed} ")
            self._stream.flush()

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\r\033[K")
            self._stream.flush()
