"""/v1/embeddings."""

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request

from modelserver_runtime.backends.base import EmbeddingBackend, EmbeddingItem, EmbeddingLimits
from modelserver_runtime.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    RequestFailure,
)
from modelserver_runtime.rest.context import Context, NeedsJson
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.schemas.embeddings import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    EmbeddingUsage,
)

router = APIRouter(tags=["OpenAI"], dependencies=[NeedsJson])


@router.post("/v1/embeddings")
async def create_embeddings(
    body: EmbeddingRequest, request: Request, context: Context
) -> EmbeddingList:
    ticket = context.ticket()
    context.require_few(len(body.input), "input")
    model = await context.model(body.model, deadline=ticket.deadline)
    service = model.service.embeddings
    _require_dimensions(body.dimensions, service.backend.limits)
    items = await context.in_thread(items_of_texts, body.input, service.backend, "input")
    tokens = sum(len(item.token_ids) for item in items)
    model.telemetry.prompt_tokens.inc(tokens)
    ticket.timing.prompt_tokens = tokens
    vectors = await until_disconnect(request.receive, service.engine.run(items, ticket))
    return EmbeddingList(
        data=[_embedding(body, index, vector) for index, vector in enumerate(vectors)],
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def _require_dimensions(wanted: int | None, limits: EmbeddingLimits) -> None:
    if wanted is None or wanted == limits.dimensions:
        return
    sizes = limits.shorter
    if sizes == frozenset():
        raise InvalidRequest(
            f"The model's vectors have {limits.dimensions} dimensions and cannot be cut to "
            f"{wanted}; leave dimensions away",
            param="dimensions",
        )
    if wanted > limits.dimensions or (sizes is not None and wanted not in sizes):
        choices = f"at most {limits.dimensions}" if sizes is None else _listed(sizes)
        raise InvalidRequest(f"dimensions is {wanted}; it must be {choices}", param="dimensions")


def _listed(sizes: frozenset[int]) -> str:
    return f"one of {', '.join(map(str, sorted(sizes)))}"


def items_of_texts(
    inputs: Sequence[str | list[int]], backend: EmbeddingBackend, param: str
) -> list[EmbeddingItem]:
    return [_item(entry, backend, f"{param}.{index}") for index, entry in enumerate(inputs)]


def _item(entry: str | list[int], backend: EmbeddingBackend, param: str) -> EmbeddingItem:
    if not entry:
        raise InvalidRequest(f"{param} is empty; send at least one character", param=param)
    token_ids = backend.tokenizer.encode(entry) if isinstance(entry, str) else tuple(entry)
    if not token_ids:
        raise InvalidRequest(f"{param} has no tokens; send a text with words", param=param)
    _require_known(token_ids, backend.limits.vocabulary_size, param)
    longest = backend.limits.max_model_length
    if len(token_ids) > longest:
        raise ContextLengthExceeded(
            f"{param} has {len(token_ids)} tokens, and the model takes at most {longest}; "
            "shorten or split it",
            param=param,
        )
    return EmbeddingItem(token_ids=token_ids)


def _require_known(token_ids: Sequence[int], size: int | None, param: str) -> None:
    unknown = [one for one in token_ids if one < 0 or (size is not None and one >= size)]
    if unknown:
        raise InvalidRequest(
            f"{param} names token {unknown[0]}, and the model has {size}", param=param
        )


def _embedding(body: EmbeddingRequest, index: int, vector: bytes | RequestFailure) -> Embedding:
    """One input that failed fails the request: the API has no place for a partial answer."""
    if isinstance(vector, RequestFailure):
        raise vector
    content = _cut(vector, body.dimensions)
    if body.encoding_format == "base64":
        return Embedding(index=index, embedding=base64.b64encode(content).decode())
    return Embedding(index=index, embedding=np.frombuffer(content, dtype="<f4").tolist())


def _cut(vector: bytes, dimensions: int | None) -> bytes:
    """The first dimensions, made a vector of length 1 again."""
    if dimensions is None or dimensions * 4 == len(vector):
        return vector
    values = np.frombuffer(vector, dtype="<f4")[:dimensions]
    return bytes((values / np.linalg.norm(values)).astype("<f4").tobytes())
