"""Asks pods what they have counted; their answers are read, never trusted."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from modelserver_operator.cluster.bodies import read_at_most
from modelserver_operator.cluster.samples import MOST_EDGES, RUNTIME, count_of, counted
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


class PodAsker:
    """Asks over the pods' own addresses, without credentials."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._slots = asyncio.Semaphore(MOST_PODS_AT_ONCE)

    async def ask[A](
        self, pod: Manifest, port: int, path: str, parse: Callable[[bytes], A]
    ) -> A | None:
        """None where it does not answer, or not in the words that `parse` knows."""
        url = f"http://{_host(pod)}:{port}{path}"
        try:
            async with (
                self._slots,
                self._session.get(url, timeout=PATIENCE, allow_redirects=False) as response,
            ):
                response.raise_for_status()
                return parse(await read_at_most(response, MOST_BYTES))
        except _NOT_AN_ANSWER as failure:
            log.info("%s is not answered: %s: %s", url, type(failure).__name__, failure)
            return None


class ReadingProbe:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._asker = PodAsker(session)

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
        answers = await asyncio.gather(
            *(self._asker.ask(pods[name], port, path, parse) for name in asked)
        )
        pairs = zip(asked, answers, strict=True)
        return {name: answer for name, answer in pairs if answer is not None}


def _host(pod: Manifest) -> str:
    address = str(pod["status"]["podIP"])
    return f"[{address}]" if ":" in address else address


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
        requests=count_of(counted["requests"]),
        errors=count_of(counted["errors"]),
        latency=_histogram(counted.get("latency"), edges),
        first_token=_histogram(counted.get("firstToken"), edges),
        token_gaps=_histogram(counted.get("tokenGaps"), edges),
    )


def _histogram(buckets: Any, edges: tuple[float, ...]) -> Histogram:
    if not buckets:
        return Histogram(edges_seconds=edges, buckets=(0,) * (len(edges) + 1))
    if len(buckets) != len(edges) + 1:
        raise ValueError(f"{len(buckets)} buckets for {len(edges)} edges; one more is expected")
    return Histogram(edges_seconds=edges, buckets=tuple(count_of(one) for one in buckets))


def _copies(counted: Json) -> Copies:
    """A copy that got no good answer, where the client did, disagrees."""
    failed, baseline_failed = (
        count_of(counted.get(one, 0)) for one in ("failed", "baselineFailed")
    )
    return Copies(
        pairs=count_of(counted.get("pairs", 0)) + failed,
        disagreed=count_of(counted.get("disagreed", 0)) + failed,
        baseline_pairs=count_of(counted.get("baselinePairs", 0)) + baseline_failed,
        baseline_disagreed=count_of(counted.get("baselineDisagreed", 0)) + baseline_failed,
    )


# -- of a pod of a model ---------------------------------------------------------------------------


def model_answer(body: bytes) -> ModelAnswer:
    """Raises ValueError or KeyError where it is no Prometheus text of ours."""
    answer = counted(_samples(body.decode()), RUNTIME)
    if answer.began is None:
        raise ValueError(f"no {RUNTIME.began}: it cannot be known since when it counts")
    return answer


def _samples(text: str) -> Iterator[Sample]:
    """Only the lines that are read: a server has hundreds of others."""
    lines = [line for line in text.splitlines() if line.startswith(RUNTIME.all)]
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples
