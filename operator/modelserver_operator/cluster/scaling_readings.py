"""Asks pods and Prometheus what scaling is decided by; their answers are read, never trusted."""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from modelserver_operator.apis.autoscaling import ScalingQuery
from modelserver_operator.cluster.checks import value_in
from modelserver_operator.cluster.prometheus import NO_ANSWER, Prometheus, said
from modelserver_operator.cluster.readings import MODEL_PATH, MODEL_PORT, PodAsker
from modelserver_operator.cluster.samples import total
from modelserver_operator.plan.scaling_values import ScalingHeard, ScalingQuestion
from modelserver_operator.plan.values import Manifest
from modelserver_operator.scaling.samples import PodReading

MOST_BYTES = 64 * 1024  # of an answer of Prometheus: one number

# Of the runtime. What whoever looks after a pod asks is no request of anybody.
REQUESTS, IN_FLIGHT = "modelserver_requests_total", "modelserver_inflight_requests"
QUEUE_DEPTH = "modelserver_queue_depth"
TOKENS = "modelserver_generated_tokens_total"
CPU_SECONDS, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
UTILIZATION = "modelserver_hardware_utilization"
_READ = (REQUESTS, IN_FLIGHT, QUEUE_DEPTH, TOKENS, CPU_SECONDS, MEMORY, UTILIZATION)
_OVERSEEN = frozenset(
    {
        *("/livez", "/ready", "/readyz", "/startupz", "/metrics", "/health"),
        *("/v2/health/live", "/v2/health/ready"),
    }
)

log = logging.getLogger(__name__)


class ScalingProbe:
    """`clock` is the wall clock; readings of two moments are compared by it."""

    def __init__(
        self, session: aiohttp.ClientSession, prometheus: Prometheus, clock: Callable[[], datetime]
    ) -> None:
        self._asker = PodAsker(session)
        self._prometheus = prometheus
        self._clock = clock

    async def ask(self, pods: Iterable[Manifest], question: ScalingQuestion) -> ScalingHeard:
        asked = [pod for pod in pods if pod["metadata"]["name"] in question.pods]
        readings, numbers = await asyncio.gather(
            asyncio.gather(*map(self._of_pod, asked)),
            asyncio.gather(*map(self._of_query, question.queries)),
        )
        names = [one.name for one in question.queries]
        pairs = zip(names, numbers, strict=True)
        return ScalingHeard(
            at=self._clock(),
            readings={one.pod: one for one in readings if one is not None},
            queries={name: number for name, number in pairs if number is not None},
        )

    async def _of_pod(self, pod: Manifest) -> PodReading | None:
        uid = pod["metadata"]["uid"]
        return await self._asker.ask(
            pod, MODEL_PORT, MODEL_PATH, lambda body: pod_reading(body, uid, self._clock())
        )

    async def _of_query(self, query: ScalingQuery) -> float | None:
        if not self._prometheus.is_configured:
            return None
        try:
            number = value_in(await self._prometheus.query(query.query, most_bytes=MOST_BYTES))
        except NO_ANSWER as failure:
            log.info("query %s has no answer: %s", query.name, said(failure))
            return None
        return number if math.isfinite(number) else None


def pod_reading(body: bytes, uid: str, at: datetime) -> PodReading:
    """Raises ValueError or KeyError where it is no Prometheus text."""
    found: Mapping[str, list[Sample]] = _by_name(body.decode())
    requests = [one for one in found.get(REQUESTS, ()) if one.labels.get("route") not in _OVERSEEN]
    shares = [one.value for one in found.get(UTILIZATION, ()) if one.labels.get("device") != "cpu"]
    has_runtime = IN_FLIGHT in found
    return PodReading(
        pod=uid,
        at=at,
        requests=total(requests) if has_runtime else None,
        in_flight=_sum(found.get(IN_FLIGHT)),
        queue_depth=_sum(found.get(QUEUE_DEPTH)),
        tokens=_sum(found.get(TOKENS)),
        cpu_seconds=_sum(found.get(CPU_SECONDS)),
        memory_bytes=_sum(found.get(MEMORY)),
        gpu_share=sum(shares) / len(shares) if shares else None,
    )


def _by_name(text: str) -> dict[str, list[Sample]]:
    """Only the lines that are read: a server has hundreds of others."""
    found: dict[str, list[Sample]] = defaultdict(list)
    lines = [line for line in text.splitlines() if line.startswith(_READ)]
    for sample in _samples(lines):
        found[sample.name].append(sample)
    return found


def _samples(lines: Sequence[str]) -> Iterator[Sample]:
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        yield from family.samples


def _sum(samples: Sequence[Sample] | None) -> float | None:
    """None where there are none, or where they are no amount."""
    if not samples:
        return None
    amount = sum(one.value for one in samples)
    return amount if math.isfinite(amount) and amount >= 0 else None
