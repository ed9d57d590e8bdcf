"""`modelserver-runtime bench`: its flags, its progress, its result."""

import asyncio
import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import urlsplit

from modelserver_runtime.bench import limits
from modelserver_runtime.bench.asking import Answer, Clock, Plan, models_of, run
from modelserver_runtime.bench.report import summarize, table
from modelserver_runtime.errors import InvalidConfiguration

type Say = Callable[[str], None]

_SMALLEST: Mapping[str, int] = {
    "requests": 1,
    "concurrency": 1,
    "max_tokens": 1,
    "prompt_words": 1,
}
# What prompts are multiplied with: many rows at once.
_ROWS_OF_PROMPTS = 512


def bench(
    flags: Mapping[str, Any], *, key: str, clock: Clock, say: Say, progress_to: TextIO
) -> bool:
    """Whether every request was answered."""
    plan = _plan(flags, key)
    progress = _Progress(plan.requests, progress_to)
    answers, seconds = asyncio.run(run(plan, clock, progress.note))
    progress.end()
    summary = summarize(answers, seconds)
    found = _nearness(plan, answers, seconds, progress) if _wants_limits(flags, plan) else None
    if flags["output"] == "table":
        for line in (*table(summary), *_lines(found, plan)):
            say(line)
    else:
        say(json.dumps(summary.as_json() | {"limits": found and found.as_json()}))
    return not summary.failed


def _wants_limits(flags: Mapping[str, Any], plan: Plan) -> bool:
    return flags["limits"] == "yes" or (flags["limits"] == "auto" and _is_here(plan.url))


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _nearness(
    plan: Plan, answers: Sequence[Answer], seconds: float, progress: "_Progress"
) -> limits.Nearness | None:
    """None of a server that does not say what its model costs, or that answered nothing."""
    good = [answer for answer in answers if not answer.failure]
    known = limits.cost_of(asyncio.run(models_of(plan)), plan.model)
    if known is None or not good:
        return None
    from modelserver_runtime.backends.machine_limits import (  # noqa: PLC0415  loads torch
        measure_limits,
    )

    progress.say("measuring what this machine allows …")
    cost, threads = known
    measured = measure_limits(threads, rows=sorted({1, plan.concurrency, _ROWS_OF_PROMPTS}))
    progress.end()
    load = limits.Load(
        concurrency=plan.concurrency,
        requests=len(good),
        prompt_tokens=sum(answer.prompt_tokens - answer.cached_tokens for answer in good),
        generated_tokens=sum(answer.generated_tokens for answer in good),
    )
    return limits.nearness(measured, cost, load, seconds)


def _lines(found: limits.Nearness | None, plan: Plan) -> Sequence[str]:
    return [] if found is None else ["", *limits.lines(found, plan.concurrency)]


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
        failed = f", {self._failed} failed" if self._failed else ""
        self.say(f"{self._done} of {self._requests} answered{failed} ")

    def say(self, words: str) -> None:
        if self._stream is not None:
            self._stream.write(f"\r{words}")
            self._stream.flush()

    def end(self) -> None:
        if self._stream is not None:
            self._stream.write("\r\033[K")
            self._stream.flush()
