"""`python -m bench.soaking.server`: the real server, whose primary model breaks on one word.

Models do break on an input, and then fail for all that is computed with it. Which input that is
differs between models; here it is known.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from modelserver_runtime.app.loader import load
from modelserver_runtime.app.server import serve
from modelserver_runtime.artifacts import Progress
from modelserver_runtime.backends.base import BatchBackend, LoadedModel, TaskItem
from modelserver_runtime.process.listening import listen
from modelserver_runtime.settings import Settings, load_settings

POISON = "poison"


def main() -> int:
    settings = load_settings()
    serve(settings, listen(settings.host, settings.port), _load, _say)
    return 0


def _load(settings: Settings, progress: Progress) -> LoadedModel:
    model = load(settings, progress)
    return replace(model, backend=BreakingBackend(cast("BatchBackend", model.backend)))


class BreakingBackend:
    """Fails for a whole batch that holds the word; otherwise it is the model."""

    def __init__(self, backend: BatchBackend) -> None:
        self._backend = backend

    def warm_up(self) -> None:
        self._backend.warm_up()

    def run(self, items: Sequence[TaskItem]) -> Sequence[Any]:
        if any(POISON in str(item.inputs) for item in items):
            raise RuntimeError("the model broke on an input")
        return self._backend.run(items)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
