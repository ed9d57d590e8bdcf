"""/v1/rerank and /v1/score: how well texts go together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from modelserver_runtime.backends.base import TaskItem
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.errors import InvalidRequest, RequestFailure, TaskNotSupported
from modelserver_runtime.identifiers import random_hex
from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.context import Context, NeedsJson, ServerContext
from modelserver_runtime.rest.disconnect import until_disconnect
from modelserver_runtime.rest.embeddings import items_of_texts
from modelserver_runtime.rest.schemas.rerank import (
    Ranked,
    RankedDocument,
    RerankAnswer,
    RerankRequest,
    RerankUsage,
    Score,
    ScoreAnswer,
    ScoreRequest,
)
from modelserver_runtime.settings import Task

router = APIRouter(tags=["OpenAI"], dependencies=[NeedsJson])

# The score of a cross-encoder's only label, between 0 and 1.
_PARAMETERS = {"function_to_apply": "sigmoid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """`left` and `right` are equally long; the params name the fields that they came from."""

    left: Sequence[str]
    right: Sequence[str]
    left_param: str
    right_param: str


@router.post("/v1/rerank")
@router.post("/rerank", include_in_schema=False)
async def rerank(body: RerankRequest, request: Request, context: Context) -> RerankAnswer:
    """The documents in the order of their relevance to the query, the best first."""
    ticket = context.ticket()
    context.require_few(len(body.documents), "documents")
    model = await context.model(body.model, deadline=ticket.deadline)
    pairs = _Pairs(
        left=[body.query] * len(body.documents),
        right=body.documents,
        left_param="query",
        right_param="documents",
    )
    scoring = _scores(pairs, context, model, ticket)
    scores, usage = await until_disconnect(request.receive, scoring)
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    return RerankAnswer(
        id=f"rerank-{random_hex(12)}",
        model=body.model or model.name,
        results=[_ranked(body, index, scores[index]) for index in order[: body.top_n]],
        usage=usage,
    )


def _ranked(body: RerankRequest, index: int, score: float) -> Ranked:
    document = RankedDocument(text=body.documents[index]) if body.return_documents else None
    return Ranked(index=index, relevance_score=score, document=document)


@router.post("/v1/score")
@router.post("/score", include_in_schema=False)
async def score(body: ScoreRequest, request: Request, context: Context) -> ScoreAnswer:
    ticket = context.ticket()
    pairs = _pairs(body)
    context.require_few(len(pairs.right), "text_2")
    model = await context.model(body.model, deadline=ticket.deadline)
    scoring = _scores(pairs, context, model, ticket)
    scores, usage = await until_disconnect(request.receive, scoring)
    return ScoreAnswer(
        id=f"score-{random_hex(12)}",
        created=int(context.wall_clock()),
        model=body.model or model.name,
        data=[Score(index=index, score=value) for index, value in enumerate(scores)],
        usage=usage,
    )


def _pairs(body: ScoreRequest) -> _Pairs:
    left, right = body.text_1, body.text_2
    if len(left) == 1:
        left = left * len(right)
    if len(left) != len(right):
        raise InvalidRequest(
            f"text_1 has {len(left)} texts and text_2 has {len(right)}; send one text, or as many "
            "as in text_2",
            param="text_1",
        )
    return _Pairs(left=left, right=right, left_param="text_1", right_param="text_2")


async def _scores(
    pairs: _Pairs, context: ServerContext, model: ServedModel, ticket: Ticket
) -> tuple[list[float], RerankUsage | None]:
    task = model.service.description.task
    if task == Task.EMBEDDINGS:
        return await _cosines(pairs, context, model, ticket)
    if task == Task.TEXT_CLASSIFICATION:
        return await _relevances(pairs, model, ticket), None
    raise TaskNotSupported(
        f"The model is served for {task} and does not compare texts; use a model that embeds, or "
        "a cross-encoder"
    )


async def _cosines(
    pairs: _Pairs, context: ServerContext, model: ServedModel, ticket: Ticket
) -> tuple[list[float], RerankUsage]:
    """Each text is embedded once, however often it comes."""
    service = model.service.embeddings
    texts = list(dict.fromkeys(pairs.left))
    left = await context.in_thread(items_of_texts, texts, service.backend, pairs.left_param)
    right = await context.in_thread(
        items_of_texts, list(pairs.right), service.backend, pairs.right_param
    )
    tokens = sum(len(item.token_ids) for item in (*left, *right))
    model.telemetry.prompt_tokens.inc(tokens)
    answers = await service.engine.run([*left, *right], ticket)
    vectors = [np.frombuffer(_required(answer), dtype="<f4") for answer in answers]
    of_left = dict(zip(texts, vectors, strict=False))
    of_right = vectors[len(texts) :]
    scores = [
        float(np.dot(of_left[text], vector))
        for text, vector in zip(pairs.left, of_right, strict=True)
    ]
    return scores, RerankUsage(total_tokens=tokens)


async def _relevances(pairs: _Pairs, model: ServedModel, ticket: Ticket) -> list[float]:
    items = [
        TaskItem(inputs={"text": left, "text_pair": right}, parameters=_PARAMETERS)
        for left, right in zip(pairs.left, pairs.right, strict=True)
    ]
    answers = await model.service.tasks.run(items, ticket)
    return [_relevance(answer, pairs, index) for index, answer in enumerate(answers)]


def _relevance(answer: Any, pairs: _Pairs, index: int) -> float:
    if isinstance(answer, RequestFailure) and answer.param is not None:
        answer.param = f"{pairs.right_param}.{index}"
    labels = _required(answer)
    if len(labels) != 1:
        raise TaskNotSupported(
            f"The model has {len(labels)} labels; only one with a single label compares texts: a "
            "cross-encoder. Use /predict for the labels"
        )
    return float(labels[0]["score"])


def _required(answer: Any) -> Any:
    """One text that failed fails the request: the ranking would be wrong without it."""
    if isinstance(answer, RequestFailure):
        raise answer
    return answer
