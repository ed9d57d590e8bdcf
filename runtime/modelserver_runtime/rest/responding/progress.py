"""One response while it is made."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.output import Delta
from modelserver_runtime.engine.worker import Clock
from modelserver_runtime.errors import RequestFailure
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.rest.logprobs import chat_logprobs
from modelserver_runtime.rest.priority import tier_served
from modelserver_runtime.rest.responding.output import Event, OutputBuilder
from modelserver_runtime.rest.schemas.responses import (
    IncompleteDetails,
    ResponseError,
    ResponseObject,
    ResponsesRequest,
    ResponseUsage,
)
from modelserver_runtime.rest.tools.pieces import Text
from modelserver_runtime.rest.turn import AnswerProgress, Turn


def new_response(body: ResponsesRequest, created_at: int) -> ResponseObject:
    """As it is before anything is made: what was asked, and where nothing was, the defaults."""
    text = body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {}
    choice = body.tool_choice or "auto"
    return ResponseObject(
        id=f"resp_{random_hex(24)}",
        created_at=created_at,
        status="in_progress",
        background=bool(body.background),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        model=body.model,
        output=[],
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        reasoning={"effort": body.reasoning and body.reasoning.effort, "summary": None},
        service_tier=tier_served(body.service_tier),
        store=body.store is not False,
        temperature=body.temperature,
        text={"format": {"type": "text"}, **text},
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        tools=[{"strict": None, **tool.model_dump()} for tool in body.tools or ()],
        top_logprobs=body.top_logprobs or 0,
        top_p=body.top_p,
        metadata=body.metadata or {},
    )


@dataclass(slots=True, kw_only=True)
class ResponseProgress:
    """`keep` is called with the response once it has ended."""

    turn: Turn
    response: ResponseObject
    wall_clock: Clock
    wants_logprobs: bool
    keep: Callable[[ResponseObject], None]
    _output: OutputBuilder = field(default_factory=OutputBuilder)
    _tokens: int = 0
    _sequence: int = 0
    _failure: RequestFailure | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[AsyncIterator[Event]]:
        async with self.turn.engine.open(self.turn.requests, self.turn.ticket) as deltas:
            yield self._numbered(deltas)

    async def whole(self) -> ResponseObject:
        async with self.open() as events:
            async for _ in events:
                pass
        if self._failure is not None:
            raise self._failure
        return self.response

    async def _numbered(self, deltas: Deltas) -> AsyncIterator[Event]:
        async for event in self._events(deltas):
            yield {**event, "sequence_number": self._sequence}
            self._sequence += 1

    async def _events(self, deltas: Deltas) -> AsyncIterator[Event]:
        """Nothing before the first delta, so that a refused request gets its status."""
        progress = AnswerProgress(self.turn.make_reader())
        first = await anext(deltas)
        yield self._lifecycle("created")
        yield self._lifecycle("in_progress")
        try:
            for event in self._of_delta(first[1], progress):
                yield event
            async for _, delta in deltas:
                for event in self._of_delta(delta, progress):
                    yield event
        except RequestFailure as failure:
            self._fail(failure)
            yield self._lifecycle("failed")
            return
        for event in self._end(progress):
            yield event

    def _of_delta(self, delta: Delta, progress: AnswerProgress) -> Iterator[Event]:
        self._tokens = delta.completion_tokens
        logprobs = self._logprobs(delta)
        for piece in progress.pieces(delta):
            yield from self._output.add(piece, logprobs if isinstance(piece, Text) else ())
            logprobs = () if isinstance(piece, Text) else logprobs

    def _logprobs(self, delta: Delta) -> Sequence[dict[str, Any]]:
        if not self.wants_logprobs or not delta.tokens:
            return ()
        listed = chat_logprobs(delta.tokens, self.turn.tokenizer)
        return [entry.model_dump() for entry in listed.content]

    def _end(self, progress: AnswerProgress) -> Iterator[Event]:
        is_whole = progress.finish_reason != "length"
        status = "completed" if is_whole else "incomplete"
        yield from self._output.finish(status)
        self._conclude(status, incomplete_details=None if is_whole else IncompleteDetails())
        yield self._lifecycle(status)

    def _fail(self, failure: RequestFailure) -> None:
        self._failure = failure
        error = ResponseError(code="server_error", message=failure.message)
        self._conclude("failed", error=error)

    def _conclude(self, status: str, **details: Any) -> None:
        prompt_tokens = self.turn.prompt_tokens
        usage = ResponseUsage(
            input_tokens=prompt_tokens,
            output_tokens=self._tokens,
            total_tokens=prompt_tokens + self._tokens,
        )
        changes = {
            "status": status,
            "completed_at": int(self.wall_clock()) if status == "completed" else None,
            "output": self._output.items,
            "usage": usage,
            **details,
        }
        self.response = self.response.model_copy(update=changes)
        self.keep(self.response)

    def _lifecycle(self, kind: str) -> Event:
        return {"type": f"response.{kind}", "response": self.response.model_dump()}
