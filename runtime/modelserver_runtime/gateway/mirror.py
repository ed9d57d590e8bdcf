"""Copies of requests: another revision answers them too, and its answers are compared.

A request that is to be copied passes like any other, and what passes is noted up to a bound. After
the client has its answer the candidate is asked the same, and now and then the stable revision a
second time, to see how often it differs from itself. Nobody gets these answers.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from random import Random

from modelserver_runtime.errors import UpstreamFailure
from modelserver_runtime.gateway import headers
from modelserver_runtime.gateway.answers import Content, content_of
from modelserver_runtime.gateway.choice import Choice
from modelserver_runtime.gateway.compare import Agreement, compare
from modelserver_runtime.gateway.counts import ShadowCounts
from modelserver_runtime.gateway.passing import GRACE_SECONDS, Way
from modelserver_runtime.gateway.pool import Pool
from modelserver_runtime.gateway.recording import TOO_LARGE, Budget, Recording
from modelserver_runtime.gateway.request import Request
from modelserver_runtime.gateway.route import Mirror
from modelserver_runtime.gateway.splitter import YES, Urn, sample

log = logging.getLogger(__name__)

_JSON = "application/json"
# What these change or keep must not be changed or kept twice.
_PATHS_WITH_EFFECTS = (
    *("/v1/files", "/v1/batches", "/v1/responses", "/admin", "/models", "/v2/repository"),
    "/predictions",
)
# A copy must be computed anew, may be answered as plain text only, and is one of ours.
_NOT_COPIED = frozenset({b"cache-control", b"accept-encoding", b"idempotency-key"})
_ADDED = ((b"cache-control", b"no-store"), (headers.SHADOW, b"true"))
_GOOD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorLimits:
    max_concurrent: int
    max_body_bytes: int
    max_bytes: int


class Mirroring:
    def __init__(self, limits: MirrorLimits, counts: ShadowCounts, random: Random) -> None:
        self._limits = limits
        self._counts = counts
        self._random = random
        self._budget = Budget(limits.max_bytes)
        self._baseline: Urn | None = None
        self._running: set[asyncio.Task[None]] = set()

    def follow(self, rules: Mirror | None) -> None:
        self._baseline = sample(rules.baseline_percent, self._random) if rules else None

    def record(self, way: Way, choice: Choice, request: Request) -> Recording | None:
        """None unless this request is to be copied."""
        if not _is_copyable(way, choice, request) or not way.chooser.is_copied():
            return None
        if (headers.content_length(request.headers) or 0) > self._limits.max_body_bytes:
            self._counts.skipped[TOO_LARGE] += 1
            return None
        return Recording(self._limits.max_body_bytes, self._budget)

    def finish(self, way: Way, request: Request, recording: Recording) -> None:
        """The client has its answer, or will never have one."""
        if len(self._running) >= self._limits.max_concurrent:
            recording.give_up("busy")
        original = None if recording.reason else self._original(way, recording)
        if original is None:
            self._counts.skipped[recording.reason or "notComparable"] += 1
            recording.forget()
            return
        task = asyncio.create_task(self._copy(way, request, recording, original))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        for task in self._running:
            task.cancel()

    def _original(self, way: Way, recording: Recording) -> Content | None:
        if recording.head is None or recording.head.status != _GOOD:
            recording.give_up("notAnswered")
            return None
        kind = headers.content_type(recording.head.headers)
        return content_of(recording.answer, kind, _rules(way).compare)

    async def _copy(
        self, way: Way, request: Request, recording: Recording, original: Content
    ) -> None:
        rules = _rules(way)
        is_baseline = self._baseline is not None and self._baseline.draw() == YES
        try:
            self._counts.copied += 1
            candidate = await self._ask(way, rules.revision, request, recording)
            if candidate is None:
                self._counts.failed += 1
            else:
                self._note(_agreement(original, candidate[0], rules))
            if is_baseline:
                again = await self._ask(way, way.route.stable, request, recording)
                self._note_baseline(again and _agreement(original, again[0], rules))
        finally:
            recording.forget()

    def _note(self, agreement: Agreement) -> None:
        self._counts.pairs += 1
        self._counts.disagreed += not agreement.agrees
        if agreement.length_ratio is not None:
            self._counts.length_ratios += 1
            self._counts.length_ratio_total += agreement.length_ratio

    def _note_baseline(self, agreement: Agreement | None) -> None:
        if agreement is None:
            self._counts.baseline_failed += 1
            return
        self._counts.baseline_pairs += 1
        self._counts.baseline_disagreed += not agreement.agrees

    async def _ask(
        self, way: Way, revision: str, request: Request, recording: Recording
    ) -> tuple[Content | None] | None:
        """What its good answer says, which may be nothing that is known; None without one."""
        seconds = way.route.timeout_seconds + GRACE_SECONDS
        content = _copy_of(request, revision).content(recording.request, is_whole=True)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(way.pools[revision], request, content, seconds)
        except (UpstreamFailure, TimeoutError) as failure:
            log.info("A copy got no answer: %s", failure)
            return None
        if answer is None:
            return None
        return (content_of(*answer, _rules(way).compare),)

    async def _answer(
        self, pool: Pool, request: Request, content: bytes, seconds: float
    ) -> tuple[bytes, str] | None:
        """The body and its type; None for an error, or for one that is too large."""
        connection = await pool.take()
        body = bytearray()
        try:
            connection.ask(request.method, content)
            head = await connection.head(seconds)
            while not connection.is_finished and len(body) <= self._limits.max_body_bytes:
                body += await connection.chunk(seconds)
        finally:
            pool.give_back(connection)
        if head.status != _GOOD or len(body) > self._limits.max_body_bytes:
            return None
        return bytes(body), headers.content_type(head.headers)


def _rules(way: Way) -> Mirror:
    if way.route.mirror is None:
        raise ValueError("only requests of a route with a mirror are recorded")
    return way.route.mirror


def _is_copyable(way: Way, choice: Choice, request: Request) -> bool:
    """What stable answers to nobody special, and what may be asked twice."""
    if way.route.mirror is None or choice.experiment or choice.revision != way.route.stable:
        return False
    has_effects = any(
        request.path == path or request.path.startswith(f"{path}/") for path in _PATHS_WITH_EFFECTS
    )
    is_json = headers.content_type(request.headers) == _JSON
    return request.method == "POST" and is_json and not has_effects


def _copy_of(request: Request, revision: str) -> Request:
    return replace(
        request,
        headers=[pair for pair in request.headers if pair[0] not in _NOT_COPIED],
        added=_ADDED,
        identity=request.identity[:110] + b".copy-" + revision.encode("latin-1", "replace"),
    )


def _agreement(original: Content, other: Content | None, rules: Mirror) -> Agreement:
    return compare(original, other, min_cosine_percent=rules.min_cosine_percent)
