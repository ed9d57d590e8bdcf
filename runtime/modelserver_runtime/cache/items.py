"""Items of a batch through the cache: each is known or computed by itself."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from modelserver_runtime.cache.calls import CachedCalls, CallRules, Engine, Pieces
from modelserver_runtime.cache.exchange import current_exchange
from modelserver_runtime.engine.answering import Answerer
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.errors import RequestFailure

# What CPython takes for an entry of a few objects beside its content.
_ENTRY_BYTES = 200


class Form(Protocol):
    """How the answers of a kind of model are kept."""

    def encode(self, value: Any) -> bytes | None:
        """None if nothing that is read back would be exactly this value."""
        ...

    def decode(self, content: bytes) -> Any: ...


class JsonForm:
    """Every reader gets a value of its own, which it may change."""

    def encode(self, value: Any) -> bytes | None:
        options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
        try:
            content = orjson.dumps(value, option=options | orjson.OPT_PASSTHROUGH_SUBCLASS)
        except TypeError:
            return None
        return content if orjson.loads(content) == value else None

    def decode(self, content: bytes) -> Any:
        return orjson.loads(content)


class BytesForm:
    """Vectors are bytes already."""

    def encode(self, value: Any) -> bytes | None:
        return bytes(value)

    def decode(self, content: bytes) -> Any:
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAnswer:
    """`content` is None for a `value` that cannot be kept."""

    content: bytes | None = None
    value: Any = None


class ItemCodec:
    """See `codec.Codec`."""

    def may_store(self, chunks: Sequence[ItemAnswer]) -> bool:
        return all(chunk.content is not None for chunk in chunks)

    def size_of(self, chunks: Sequence[ItemAnswer]) -> int:
        return _ENTRY_BYTES + sum(len(chunk.content or b"") for chunk in chunks)

    def encode(self, chunks: Sequence[ItemAnswer]) -> bytes:
        [answer] = chunks
        return answer.content or b""

    def decode(self, content: bytes) -> tuple[ItemAnswer, ...]:
        return (ItemAnswer(content=content),)


def item_rules[Item](
    *, tokens_of: Callable[[Item], int], repeats: Callable[[Item], bool]
) -> CallRules[Item, ItemAnswer]:
    """`repeats`: whether the answer to an item comes out the same each time."""
    return CallRules(
        codec=ItemCodec(),
        may_keep=lambda item, _: repeats(item),
        is_last=lambda _: True,
        is_same=lambda answer, other: answer == other,
        joined=lambda answers: answers[0],
        tokens_of=lambda item, _: tokens_of(item),
    )


def item_engine[Item](engine: Answerer[Item], form: Form) -> Engine[Item, ItemAnswer]:
    """A batch as the cache sees it: every answer is one piece."""

    async def pieces(
        requests: Sequence[Item], ticket: Ticket
    ) -> AsyncGenerator[tuple[int, ItemAnswer | RequestFailure]]:
        for index, value in enumerate(await engine.run(requests, ticket)):
            if isinstance(value, RequestFailure):
                yield index, value
            else:
                yield index, ItemAnswer(content=form.encode(value), value=value)

    @asynccontextmanager
    async def opened(
        requests: Sequence[Item], ticket: Ticket
    ) -> AsyncGenerator[Pieces[ItemAnswer]]:
        async with aclosing(pieces(requests, ticket)) as answers:
            yield answers

    return opened


class CachedItems[Item]:
    """See `engine.answering.Answerer`."""

    def __init__(
        self, engine: Answerer[Item], calls: CachedCalls[Item, ItemAnswer], form: Form
    ) -> None:
        self._engine = engine
        self._calls = calls
        self._form = form

    async def run(self, items: Sequence[Item], ticket: Ticket) -> list[Any | RequestFailure]:
        exchange = current_exchange()
        keys = self._calls.keys(items, ticket, exchange.directives)
        if keys is None:
            self._calls.note_bypass(items, exchange)
            return await self._engine.run(items, ticket)
        answers: list[Any | RequestFailure] = [None] * len(items)
        async with aclosing(self._calls.read(items, keys, ticket, exchange)) as pieces:
            async for seat, piece in pieces:
                answers[seat.index] = self._answer(piece)
        return answers

    def _answer(self, piece: ItemAnswer | Exception) -> Any | RequestFailure:
        if isinstance(piece, ItemAnswer):
            return piece.value if piece.content is None else self._form.decode(piece.content)
        if isinstance(piece, RequestFailure):
            return piece
        raise piece
