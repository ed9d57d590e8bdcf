"""What routes need of a model's engine; layers in front of an engine have the same methods."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from modelserver_runtime.backends.base import GenerationBackend
from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.request import GenerationRequest, Ticket
from modelserver_runtime.errors import RequestFailure


class Generator(Protocol):
    @property
    def backend(self) -> GenerationBackend: ...

    def open(
        self, requests: Sequence[GenerationRequest], ticket: Ticket
    ) -> AbstractAsyncContextManager[Deltas]:
        """Deltas of all requests as they come, each with the index of its request.

        Leaving early, also by cancellation, frees what is not finished.
        """
        ...


class Answerer[Item](Protocol):
    async def run(self, items: Sequence[Item], ticket: Ticket) -> list[Any | RequestFailure]:
        """The answer to each item, or why it has none, in their order."""
        ...
