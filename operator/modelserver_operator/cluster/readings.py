"""Asks pods what they have counted; their answers are read, never trusted."""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from modelserver_operator.plan.answers import (
    Copies,
    Heard,
    Histogram,
    ModelAnswer,
    Questions,
    RouterAnswer,
    Tally,
)
from modelserver_operator.plan.values import Manifest

ROUTER_PORT, ROUTER_PATH = 9090, "/router/status"
MODEL_PORT, MODEL_PATH = 8080, "/metrics"
PATIENCE = aiohttp.ClientTimeout(total=3, sock_connect=1)
MOST_BYTES = 2 * 1024 * 1024
MOST_PODS_AT_ONCE = 16
LONGEST_TEXT = 512
MOST_REVISIONS = 64  # and experiments, that a router may speak of
MOST_EDGES = 256
MOST_COUNTED = 2**53  # JSON's numbers are exact up to here

REQUESTS = "modelserver_requests_total"
LATENCY = "modelserver_request_duration_seconds_bucket"
FIRST_TOKEN = "modelserver_time_to_first_token_seconds_bucket"  # noqa: S105  of text
TOKEN_GAPS = "modelserver_inter_token_seconds_bucket"  # noqa: S105  of text
BEGAN = "process_start_time_seconds"
READ = (REQUESTS, LATENCY, FIRST_TOKEN, TOKEN_GAPS, BEGAN)

type Json = Mapping[str, Any]

_NOT_AN_ANSWER = (
    aiohttp.ClientError,
    TimeoutError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
)

log = logging.getLogger(__name__)


class ReadingProbe:
    """Asks over the pods' own addresses, without credentials."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._slots = asyncio.Semaphore(MOST_PODS_AT_ONCE)

    async def read(self, pods: Iterable[Manifest], questions: Questions) -> Heard:
        """A pod that does not answer, or not in these words, is left out."""
        by_name = {pod["metadata"]["name"]: pod for pod in pods}
        routers, models = await asyncio.gather(
            self._all(by_name, questions.routers, ROUTER_PORT, ROUTER_PATH, router_answer),
            self._all(by_name, questions.models, MODEL_PORT, MODEL_PATH, model_answer),
        )
        return Heard(routers=routers, models=models)

    async def _all[A](
        self,
        pods: Mapping[str, Manifest],
        names: Sequence[str],
        port: int,
        path: str,
        parse: Callable[[bytes], A],
    ) -> dict[str, A]:
        asked = [name for name in names if name in pods]
        urls = [f"http://{_host(pods[name])}:{port}{path}" for name in asked]
        answers = await asyncio.gather(*(self._ask(url, parse) for url in urls))
        pairs = zip(asked, answers, strict=True)
        return {name: answer for name, answer in pairs if answer is not None}

    async def _ask[A](self, url: str, parse: Callable[[bytes], A]) -> A | None:
        try:
            async with (
                self._slots,
                self._session.get(url, timeout=PATIENCE, allow_redirects=False) as response,
            ):
                response.raise_for_status()
                return parse(await _body(response))
        except _NOT_AN_ANSWER as failure:
            log.info("%s is not answered: %s: %s", url, type(failure).__name__, failure)
            return None


def _host(pod: Manifest) -> str:
    address = str(pod["status"]["podIP"])
    return f"[{address}]" if ":" in address else address


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
    return bytes(body)


# -- of the built-in router ------------------------------------------------------------------------


def router_answer(body: bytes) -> RouterAnswer:
    """Raises ValueError, TypeError, KeyError or AttributeError where it is no such answer."""
    document = orjson.loads(body)
    edges = tuple(float(edge) for edge in document["edgesSeconds"][:MOST_EDGES])
    revisions, experiments = (
        list(document.get(one, {}).items())[:MOST_REVISIONS] for one in ("revisions", "experiments")
    )
    return RouterAnswer(
        version=str(document["version"])[:LONGEST_TEXT],
        problem=str(document.get("routeProblem") or "")[:LONGEST_TEXT],
        began=datetime.fromisoformat(document["startedAt"]),
        tallies={str(name)[:LONGEST_TEXT]: _tally(one, edges) for name, one in revisions},
        experiments={str(name)[:LONGEST_TEXT]: _tally(one, edges) for name, one in experiments},
        copies=_copies(document.get("shadow") or {}),
    )


def _tally(counted: Json, edges: tuple[float, ...]) -> Tally:
    return Tally(
        requests=_count(counted["requests"]),
        errors=_count(counted["errors"]),
        latency=_histogram(counted.get("latency"), edges),
        first_token=_histogram(counted.get("firstToken"), edges),
        token_gaps=_histogram(counted.get("tokenGaps"), edges),
    )


def _histogram(buckets: Any, edges: tuple[float, ...]) -> Histogram:
    if not buckets:
        return Histogram(edges_seconds=edges, buckets=(0,) * (len(edges) + 1))
    if len(buckets) != len(edges) + 1:
        raise ValueError(f"{len(buckets)} buckets for {len(edges)} edges; one more is expected")
    return Histogram(edges_seconds=edges, buckets=tuple(_count(one) for one in buckets))


def _copies(counted: Json) -> Copies:
    """A copy that got no good answer, where the client did, disagrees."""
    failed, baseline_failed = (_count(counted.get(one, 0)) for one in ("failed", "baselineFailed"))
    return Copies(
        pairs=_count(counted.get("pairs", 0)) + failed,
        disagreed=_count(counted.get("disagreed", 0)) + failed,
        baseline_pairs=_count(counted.get("baselinePairs", 0)) + baseline_failed,
        baseline_disagreed=_count(counted.get("baselineDisagreed", 0)) + baseline_failed,
    )


def _count(number: Any) -> int:
    whole = int(number)
    if not 0 <= whole <= MOST_COUNTED:
        raise ValueError(f"{whole} is no count")
    return whole


# -- of a pod of a model ---------------------------------------------------------------------------


def model_answer(body: bytes) -> ModelAnswer:
    """Raises ValueError or KeyError where it is no Prometheus text of ours."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for sample in _samples(body.decode()):
        samples[sample.name].append(sample)
    if not samples[BEGAN]:
        raise ValueError(f"no {BEGAN}: it cannot be known since when it counts")
    failed = [one for one in samples[REQUESTS] if one.labels["code"].startswith("5")]
    return ModelAnswer(
        began=datetime.fromtimestamp(samples[BEGAN][0].value, UTC),
        tally=Tally(
            requests=_sum(samples[REQUESTS]),
            errors=_sum(failed),
            latency=_cumulative(samples[LATENCY]),
            first_token=_cumulative(samples[FIRST_TOKEN]),
            token_gaps=_cumulative(samples[TOKEN_GAPS]),
        ),
    )


def _samples(text: str) -> Iterator[Sample]:
    """Only the lines that are read: a server has hundreds of others."""
    lines = [line for line in text.splitlines() if line.startswith(READ)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples


def _sum(samples: Iterable[Sample]) -> int:
    return _count(sum(sample.value for sample in samples))


def _cumulative(samples: Iterable[Sample]) -> Histogram:
    """Prometheus' buckets contain those before them; routes and models are added up."""
    within: dict[float, float] = defaultdict(float)
    for sample in samples:
        within[float(sample.labels["le"])] += sample.value
    edges = tuple(sorted(edge for edge in within if math.isfinite(edge)))[:MOST_EDGES]
    numbers = [_count(within[edge]) for edge in edges] + [_count(within.get(math.inf, 0))]
    buckets = [now - before for before, now in zip([0, *numbers], numbers, strict=False)]
    return Histogram(edges_seconds=edges, buckets=tuple(_count(one) for one in buckets))
