"""Draws the requests of many rollouts at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.rolling.scenarios import Scenario

type Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Each of one look of one rollout: arrays of looks by rollouts."""

    requests: Numbers
    bad: Numbers
    baseline_requests: Numbers
    baseline_bad: Numbers


def draw(scenario: Scenario, rollouts: int, seed: int) -> Drawn:
    """Requests come independently of each other (Poisson); they fail in bursts or alone."""
    random = np.random.default_rng([seed, *scenario.name.encode()])
    weights = np.array([[look.weight] for look in scenario.looks])
    seconds = np.array([[look.seconds] for look in scenario.looks])
    expected = np.broadcast_to(
        scenario.requests_per_second * seconds, (len(scenario.looks), rollouts)
    )
    requests = random.poisson(expected * weights)
    baseline_requests = random.poisson(expected * (1 - weights))
    rates, baseline_rates = _rates(scenario)
    return Drawn(
        requests=requests,
        bad=_bad(random, requests, rates, scenario.burst),
        baseline_requests=baseline_requests,
        baseline_bad=_bad(random, baseline_requests, baseline_rates, scenario.burst),
    )


def _rates(scenario: Scenario) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the new revision and of stable, at each look."""
    baseline = np.full((len(scenario.looks), 1), float(scenario.error_rate))
    if scenario.incident:
        begin, end, rate = scenario.incident
        baseline[begin:end] = rate
    times = np.ones_like(baseline)
    times[scenario.bad_from_look :] = scenario.times
    return np.minimum(baseline * times, 1.0), baseline


def _bad(
    random: np.random.Generator, requests: Numbers, rates: NDArray[np.float64], burst: int
) -> Numbers:
    if burst == 1:
        return random.binomial(requests, rates)
    return np.minimum(burst * random.poisson(requests * rates / burst), requests)
