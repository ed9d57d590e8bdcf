"""Bounds of a probability of which k of n are known: valid whenever, and however often, one looks.

The mixture of binomial likelihoods over Beta(½, ½), divided by the likelihood of the true
probability, is a martingale that begins with 1: it ever reaches 1/risk with probability `risk` at
most (Ville). So the probabilities for which it is below form a confidence sequence; Robbins 1970,
and Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
Statistics 2021. The intervals of Clopper and Pearson and of Wilson are narrower, but for one
look that was fixed before: a gate looks until something happens.
"""

import math

_HALVINGS = 50  # until the interval is as fine as a float


def lower_bound(bad: int, requests: int, *, risk: float) -> float:
    """The smallest rate that is compatible with what was seen; 0 if nothing was."""
    bad = min(bad, requests)
    return _boundary(bad, requests, risk, outside=0.0) if bad else 0.0


def upper_bound(bad: int, requests: int, *, risk: float) -> float:
    """The largest rate that is compatible with what was seen; 1 if nothing was."""
    return _boundary(bad, requests, risk, outside=1.0) if bad < requests else 1.0


def divergence(one: float, other: float) -> float:
    """Kullback-Leibler, in nats: what a toss of coin `one` says on average against `other`."""
    return _part(one, other) + _part(1 - one, 1 - other)


def _part(one: float, other: float) -> float:
    return one * math.log(one / other) if one else 0.0


def _boundary(bad: int, requests: int, risk: float, *, outside: float) -> float:
    """Bisects between the observed rate, which is always compatible, and the end of the scale."""
    largest = _log_mixture(bad, requests) + math.log(risk)
    inside = bad / requests
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _log_likelihood(bad, requests, middle) > largest:
            inside = middle
        else:
            outside = middle
    return outside


def _log_likelihood(bad: int, requests: int, rate: float) -> float:
    """Of a rate between 0 and 1, both excluded."""
    return bad * math.log(rate) + (requests - bad) * math.log1p(-rate)


def _log_mixture(bad: int, requests: int) -> float:
    return _log_beta(bad + 0.5, requests - bad + 0.5) - _log_beta(0.5, 0.5)


def _log_beta(one: float, other: float) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)
