"""Generation through the cache: an answer is kept as its deltas, so that it streams as before."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from modelserver_runtime.backends.base import GenerationBackend
from modelserver_runtime.cache.calls import CachedCalls, CallRules
from modelserver_runtime.cache.codec import DeltaCodec
from modelserver_runtime.cache.exchange import Directives, Exchange, current_exchange
from modelserver_runtime.cache.key import Key
from modelserver_runtime.engine.answering import Generator
from modelserver_runtime.engine.engine import Deltas
from modelserver_runtime.engine.output import Delta, joined
from modelserver_runtime.engine.request import GenerationRequest, Ticket


def _may_keep(request: GenerationRequest, directives: Directives) -> bool:
    """Greedy answers, and samples that their seed repeats if the client says so."""
    sampling = request.sampling
    is_greedy = sampling.temperature == 0 or sampling.top_k == 1
    return is_greedy or (directives.sampled and sampling.seed is not None)


def _is_last(delta: Delta) -> bool:
    return delta.finish_reason is not None


def _is_same(delta: Delta, other: Delta) -> bool:
    """For a reader; probabilities may differ in their last digits from batch to batch."""
    return (delta.text, delta.completion_tokens, delta.finish_reason) == (
        other.text,
        other.completion_tokens,
        other.finish_reason,
    )


def _tokens_of(request: GenerationRequest, deltas: Sequence[Delta]) -> int:
    return len(request.prompt_token_ids) + deltas[-1].completion_tokens


GENERATION_RULES: CallRules[GenerationRequest, Delta] = CallRules(
    codec=DeltaCodec(),
    may_keep=_may_keep,
    is_last=_is_last,
    is_same=_is_same,
    joined=joined,
    tokens_of=_tokens_of,
)


def _as_stored(delta: Delta, cached_tokens: int) -> Delta:
    """Nothing was computed for it, so that no prediction has helped."""
    return replace(
        delta,
        cached_tokens=cached_tokens,
        accepted_prediction_tokens=0,
        rejected_prediction_tokens=0,
    )


class CachedGeneration:
    """See `engine.answering.Generator`; choices and prompts of one request are known one by one."""

    def __init__(self, engine: Generator, calls: CachedCalls[GenerationRequest, Delta]) -> None:
        self._engine = engine
        self._calls = calls

    @property
    def backend(self) -> GenerationBackend:
        return self._engine.backend

    @asynccontextmanager
    async def open(
        self, requests: Sequence[GenerationRequest], ticket: Ticket
    ) -> AsyncGenerator[Deltas]:
        exchange = current_exchange()
        keyed = [replace(request, prediction=()) for request in requests]
        keys = self._calls.keys(keyed, ticket, exchange.directives)
        if keys is None:
            self._calls.note_bypass(requests, exchange)
            async with self._engine.open(requests, ticket) as deltas:
                yield deltas
        else:
            async with aclosing(self._read(requests, keys, ticket, exchange)) as deltas:
                yield deltas

    async def _read(
        self,
        requests: Sequence[GenerationRequest],
        keys: Sequence[Key],
        ticket: Ticket,
        exchange: Exchange,
    ) -> Deltas:
        """A prompt that need not be computed counts as cached, once for each answer."""
        begun: set[int] = set()
        async with aclosing(self._calls.read(requests, keys, ticket, exchange)) as pieces:
            async for seat, piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
                if not self._calls.is_computed_for(seat):
                    is_first = seat.index not in begun
                    cached = len(requests[seat.index].prompt_token_ids) if is_first else 0
                    yield seat.index, _as_stored(piece, cached)
                else:
                    yield seat.index, piece
                begun.add(seat.index)
