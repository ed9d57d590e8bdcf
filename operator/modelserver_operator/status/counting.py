"""What pods have counted, as the gates need it: from histograms to numbers of slow requests."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from modelserver_operator.apis.rollout import LatencyGate
from modelserver_operator.apis.rollout_status import MOST_SOURCES, Edges, Rollout
from modelserver_operator.plan.answers import (
    Copies,
    Heard,
    Histogram,
    MeasuredSource,
    ModelAnswer,
    RouterAnswer,
    Tally,
)
from modelserver_operator.plan.asking import MEASURED, counts_at_pods
from modelserver_operator.plan.looks import revision_label
from modelserver_operator.plan.values import Manifest, Observed, Plan
from modelserver_operator.rollout.counts import Counts, Reading
from modelserver_operator.rollout.frozen import analysis_of, rules_of
from modelserver_operator.rollout.sight import Answers, Wish

SOURCE_LENGTH = 8  # of a pod's uid: told apart are some dozen
MILLISECONDS = 1000

# Slow is what nine of ten requests were not (docs/api.md, spec.rollout.analysis.latency).
QUANTILE = 0.9
# Where the stable revision has answered too few to know: any edge gives a valid comparison, these
# are between what people call quick and slow.
UNKNOWN_LATENCY_SECONDS = 1.0
UNKNOWN_FIRST_TOKEN_SECONDS = 1.0
UNKNOWN_GAP_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """`unavailable` says why there are no answers where there should be some."""

    answers: Answers | None = None
    unavailable: str = ""


def counted_of(run: Rollout, wish: Wish, plan: Plan, observed: Observed) -> Counted:
    if analysis_of(rules_of(run)).source in MEASURED:
        return _measured_of(run, observed)
    edges = run.edges or _edges_of(run, _stable_tallies(run, observed))
    readings = tuple(_readings(run, wish, observed, edges))
    if not readings:
        return Counted(unavailable=_unavailable(run, wish, plan))
    answers = Answers(
        readings=readings,
        copies=tuple(_copies(run, observed)),
        edges=None if run.edges else edges,
    )
    return Counted(answers=answers)


def _measured_of(run: Rollout, observed: Observed) -> Counted:
    """By Prometheus; nothing where it was not asked this time."""
    measured = observed.measured
    if measured is None or measured.problem:
        return Counted(unavailable=measured.problem if measured else "")
    of_stable = (one.answer.tally for one in measured.sources if one.revision == run.from_)
    edges = run.edges or _edges_of(run, list(of_stable))
    readings = (_measured(one, edges) for one in measured.sources)
    answers = Answers(
        readings=tuple(readings),
        copies=tuple(_copies(run, observed)),
        edges=None if run.edges else edges,
    )
    return Counted(answers=answers)


def _measured(one: MeasuredSource, edges: Edges) -> Reading:
    counts = _counts(one.answer.tally, edges)
    return Reading(source=one.source, revision=one.revision, counts=counts, began=one.answer.began)


def _unavailable(run: Rollout, wish: Wish, plan: Plan) -> str:
    if counts_at_pods(run, wish):
        who, asked, what = "pod of the revisions", plan.questions.models, "GET :8080/metrics"
    else:
        who, asked, what = "pod of the router", plan.questions.routers, "GET :9090/router/status"
    if not asked:
        return f"no {who} is ready, so nobody can be asked how requests were answered"
    return f"no {who} answers {what} ({len(asked)} were asked)"


# -- readings --------------------------------------------------------------------------------------


def _readings(run: Rollout, wish: Wish, observed: Observed, edges: Edges) -> Iterator[Reading]:
    if counts_at_pods(run, wish):
        yield from _of_models(run, observed, edges)
    else:
        yield from _of_routers(run, observed, edges)


def _of_models(run: Rollout, observed: Observed, edges: Edges) -> Iterator[Reading]:
    for pod, answer in _asked_models(observed.pods, observed.heard):
        if revision_label(pod) in {run.from_, run.to}:
            yield Reading(
                source=_source(pod),
                revision=revision_label(pod),
                counts=_counts(answer.tally, edges),
                began=answer.began,
            )


def _of_routers(run: Rollout, observed: Observed, edges: Edges) -> Iterator[Reading]:
    """A revision of which a router has seen nothing has the count 0, which is a base as well."""
    for pod, answer in _asked_routers(observed.pods, observed.heard):
        for revision in (run.from_, run.to):
            yield Reading(
                source=_source(pod),
                revision=revision,
                counts=_counts(answer.tallies.get(revision, Tally()), edges),
                began=answer.began,
            )


def _counts(tally: Tally, edges: Edges) -> Counts:
    return Counts(
        requests=tally.requests,
        errors=min(tally.errors, tally.requests),
        slow=_slow(tally.latency, edges.latency),
        streams=tally.first_token.count,
        slow_first=_slow(tally.first_token, edges.first_token),
        gaps=tally.token_gaps.count,
        slow_gaps=_slow(tally.token_gaps, edges.token_gap),
    )


def _slow(histogram: Histogram, edge_milliseconds: int) -> int:
    return histogram.above(edge_milliseconds / MILLISECONDS)


def _copies(run: Rollout, observed: Observed) -> Iterator[Reading]:
    for pod, answer in _asked_routers(observed.pods, observed.heard):
        pairs, repeated = _pairs(answer.copies), _repeated(answer.copies)
        for revision, counts in ((run.to, pairs), (run.from_, repeated)):
            yield Reading(source=_source(pod), revision=revision, counts=counts, began=answer.began)


def _pairs(copies: Copies) -> Counts:
    return Counts(requests=copies.pairs, errors=min(copies.disagreed, copies.pairs))


def _repeated(copies: Copies) -> Counts:
    disagreed = min(copies.baseline_disagreed, copies.baseline_pairs)
    return Counts(requests=copies.baseline_pairs, errors=disagreed)


def _asked_models(pods: Iterable[Manifest], heard: Heard) -> Iterator[tuple[Manifest, ModelAnswer]]:
    for pod in pods:
        if (answer := heard.models.get(pod["metadata"]["name"])) is not None:
            yield pod, answer


def _asked_routers(pods: Iterable[Manifest], heard: Heard) -> list[tuple[Manifest, RouterAnswer]]:
    found = [
        (pod, answer)
        for pod in sorted(pods, key=lambda one: one["metadata"]["name"])
        if (answer := heard.routers.get(pod["metadata"]["name"])) is not None
    ]
    return found[:MOST_SOURCES]


def _source(pod: Manifest) -> str:
    return str(pod["metadata"]["uid"]).replace("-", "")[:SOURCE_LENGTH]


# -- from where a time counts as slow --------------------------------------------------------------


def _stable_tallies(run: Rollout, observed: Observed) -> list[Tally]:
    return [
        answer.tally
        for pod, answer in _asked_models(observed.pods, observed.heard)
        if revision_label(pod) == run.from_
    ]


def _edges_of(run: Rollout, tallies: Sequence[Tally]) -> Edges:
    """For the whole run: as asked for, or what the stable revision's own pods have seen so far."""
    analysis = analysis_of(rules_of(run))
    latency = _sum(tally.latency for tally in tallies)
    first = _sum(tally.first_token for tally in tallies)
    gaps = _sum(tally.token_gaps for tally in tallies)
    return Edges(
        latency=_edge(analysis.latency, latency, UNKNOWN_LATENCY_SECONDS),
        first_token=_edge(analysis.time_to_first_token, first, UNKNOWN_FIRST_TOKEN_SECONDS),
        token_gap=_edge(analysis.inter_token_time, gaps, UNKNOWN_GAP_SECONDS),
    )


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    return reduce(add, histograms, Histogram())


def _edge(gate: LatencyGate | None, seen: Histogram, unknown_seconds: float) -> int:
    """In milliseconds."""
    if gate is not None and gate.slow_above_milliseconds:
        return gate.slow_above_milliseconds
    seconds = seen.quantile_edge(QUANTILE) or unknown_seconds
    return max(1, round(seconds * MILLISECONDS))
