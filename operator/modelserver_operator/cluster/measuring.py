"""Asks Prometheus what the pods of a rollout have counted.

One query for everything, so that all numbers are of one moment. Each pod is a source of its own: a
counter that begins anew is seen as that, and never hidden in a sum.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from prometheus_client.samples import Sample

from modelserver_operator.apis.rollout import MetricSource
from modelserver_operator.cluster.prometheus import NO_ANSWER, NOT_CONFIGURED, Prometheus, said
from modelserver_operator.cluster.samples import ISTIO, RUNTIME, Names, counted
from modelserver_operator.plan.answers import Measured, MeasuredSource, SeriesQuestion

# Sixteen pods with twenty routes and codes, and three histograms of twenty edges: about a MiB.
MOST_BYTES = 8 * 1024 * 1024
SOURCE_LENGTH = 8  # of a hash: told apart are some dozen

# What scrapes of one pod may differ in. Two jobs that scrape the same pod count all of it twice, so
# that only one of them is taken.
_SCRAPE = ("job", "instance", "container")

type Labels = Mapping[str, str]

log = logging.getLogger(__name__)


class MeasuringProbe:
    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    async def ask(self, question: SeriesQuestion) -> Measured:
        """Why there is no answer is told in its place."""
        if not self._prometheus.is_configured:
            return Measured(problem=NOT_CONFIGURED)
        if not question.revisions:
            return Measured(problem="no pod of the revisions is ready")
        try:
            data = await self._prometheus.query(query_of(question), most_bytes=MOST_BYTES)
            return measured(data, question)
        except NO_ANSWER as failure:
            log.info("Prometheus has no answer: %s: %s", type(failure).__name__, failure)
            return Measured(problem=f"Prometheus has no answer: {said(failure)}")


def query_of(question: SeriesQuestion) -> str:
    """`__name__` stays, since it is grouped by."""
    names, selector = _names(question), _selector(question)
    kept = ("__name__", _told_by(question), *_SCRAPE, names.code, "le")
    metrics = "|".join(names.all)
    return f'sum by ({", ".join(kept)}) ({{__name__=~"{metrics}",{selector}}})'


def _selector(question: SeriesQuestion) -> str:
    """Names of Kubernetes have nothing in them that would have to be escaped but dots."""
    named = "|".join(re.escape(one).replace("\\", "\\\\") for one in sorted(question.revisions))
    if question.source is MetricSource.ISTIO:
        # Of the proxy beside the model: what clients' proxies say would count the same again.
        return (
            f'reporter="destination",destination_workload_namespace="{question.namespace}",'
            f'destination_workload=~"{named}"'
        )
    return f'namespace="{question.namespace}",pod=~"{named}"'


def _names(question: SeriesQuestion) -> Names:
    return ISTIO if question.source is MetricSource.ISTIO else RUNTIME


def _told_by(question: SeriesQuestion) -> str:
    return "destination_workload" if question.source is MetricSource.ISTIO else "pod"


def measured(data: Any, question: SeriesQuestion) -> Measured:
    """Raises one of `NO_ANSWER` where `data` is no such answer."""
    if data["resultType"] != "vector":
        raise ValueError(f"expected a vector, got a {data['resultType']}")
    samples = [_sample(one) for one in data["result"]]
    names, told_by = _names(question), _told_by(question)
    sources = tuple(
        MeasuredSource(
            source=_short(pod),
            revision=question.revisions[labels[told_by]],
            answer=counted(of_pod, names),
        )
        for pod, labels, of_pod in _by_pod(samples, question)
        if any(one.name == names.requests for one in of_pod)
    )
    return Measured(sources=sources) if sources else Measured(problem=_nothing(question))


def _nothing(question: SeriesQuestion) -> str:
    what, pods = _names(question).requests, ", ".join(sorted(question.revisions)[:2])
    label = _told_by(question)
    return f"Prometheus has no {what} whose {label} is {pods} or another of these revisions"


def _sample(found: Any) -> Sample:
    labels = {str(name): str(value) for name, value in found["metric"].items()}
    return Sample(labels.pop("__name__"), labels, float(found["value"][1]))


def _by_pod(
    samples: Iterable[Sample], question: SeriesQuestion
) -> Iterable[tuple[str, Labels, list[Sample]]]:
    """Of each pod what one scrape has found: the first by its labels, always the same one."""
    pods: dict[str, dict[tuple[str, ...], list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for one in samples:
        if one.labels.get(_told_by(question)) in question.revisions:
            scrape = tuple(one.labels.get(name, "") for name in _SCRAPE)
            pods[_pod_of(one.labels, question)][scrape].append(one)
    for pod, scrapes in sorted(pods.items()):
        scrape = min(scrapes)
        yield pod, scrapes[scrape][0].labels, scrapes[scrape]


def _pod_of(labels: Labels, question: SeriesQuestion) -> str:
    """Istio's scrapes do not agree on how a pod's name is called; all have its address."""
    if question.source is MetricSource.ISTIO:
        address = labels.get("instance", "").rpartition(":")[0]
        return f"{labels['destination_workload']}/{address}"
    return labels["pod"]


def _short(pod: str) -> str:
    return sha256(pod.encode()).hexdigest()[:SOURCE_LENGTH]
