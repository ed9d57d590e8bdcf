"""`modelserver-runtime preflight`: its flags, its progress, its result."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

from modelserver_runtime.errors import InvalidConfiguration
from modelserver_runtime.preflight.asking import Clock, Examination, examine
from modelserver_runtime.preflight.cases import GoldenSet
from modelserver_runtime.preflight.result import Outcome, Result

type Say = Callable[[str], None]

_MOST_PERCENT = 100


def preflight(
    flags: Mapping[str, Any], *, key: str, clock: Clock, say: Say, progress_to: TextIO
) -> Result:
    """Says what came of every case, and returns it."""
    percent = _min_pass_percent(flags)
    examination = _examination(flags, key)
    progress = _Progress(len(examination.golden_set.cases), progress_to)
    outcomes = asyncio.run(examine(examination, clock, progress.note))
    result = Result(outcomes=outcomes, min_pass_percent=percent)
    is_json = flags["output"] == "json"
    for line in [json.dumps(result.as_json())] if is_json else result.lines():
        say(line)
    return result


def _min_pass_percent(flags: Mapping[str, Any]) -> int:
    percent = int(flags["min_pass_percent"])
    if not 1 <= percent <= _MOST_PERCENT:
        raise InvalidConfiguration(f"--min-pass-percent is {percent}; it must be from 1 to 100")
    return percent


def _examination(flags: Mapping[str, Any], key: str) -> Examination:
    timeout = float(flags["timeout"])
    if not timeout > 0:
        raise InvalidConfiguration(f"--timeout is {timeout:g}; it must be more than 0 seconds")
    url = str(flags["url"]).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise InvalidConfiguration(f"--url is {url!r}; it must begin with http:// or https://")
    golden_set = GoldenSet.parse(_text_of(flags["cases"]))
    return Examination(url=url, golden_set=golden_set, timeout_seconds=timeout, key=key)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InvalidConfiguration(
            f"The cases in {path} cannot be read: {why}",
            hint="Name a file with --cases; in a cluster, a key of a ConfigMap.",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"The cases in {path} are not UTF-8: {error}") from error


class _Progress:
    """A line for each case: in a pod that is its log, and at a terminal it shows what goes on."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._done = 0

    def note(self, outcome: Outcome) -> None:
        self._done += 1
        what = f"failed: {outcome.complaint}" if outcome.complaint else "passed"
        time = f" ({outcome.milliseconds:.0f} ms)" if outcome.milliseconds else ""
        self._stream.write(f"{self._done}/{self._total} {outcome.name}: {what}{time}\n")
        self._stream.flush()
