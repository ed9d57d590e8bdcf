"""Tests at every look whether bad requests are more frequent at the new revision than at stable.

Of k bad requests in a tick, k_c were answered by the new revision, which answered n_c requests
while stable answered n_s. If bad requests are θ times as frequent there, k_c is binomial: k trials,
each with probability θ·n_c / (θ·n_c + n_s). The frequency itself drops out, so an incident that
hits both revisions says nothing about either. The new revision is healthy while θ ≤ 1 + margin.

Each θ of a grid is a bettor against that: its wealth is multiplied by how much better θ explains a
tick than the margin does. Under a healthy revision no bettor's wealth grows on average, whatever
the shares of traffic are and whenever anybody looks, so that by Ville's inequality the mean of the
wealths ever reaches w with a probability of at most (wealth put in) / w.

* Conditional binomial, tested sequentially: Wald 1945; mixture over θ: Robbins 1970; as an
  anytime-valid test of canaries: Lindon, Sanden & Shirley, arXiv 2205.14762.
* Betting and Ville's inequality: Ramdas et al., "Game-theoretic statistics and safe anytime-valid
  inference", Statistical Science 2023.

Requests that fail in bursts do not fail independently; dispersion.py says how they are weighed.

A revision that turns bad after hours would have to win back what its healthy hours lost. So some
wealth is put in later, at every tick a little (as Shiryaev and Roberts do): LATE in all.
"""

import math
from dataclasses import dataclass, field, replace

from modelserver_operator.rollout.binomial import upper_bound
from modelserver_operator.rollout.dispersion import Dispersion

# How many times as frequent bad requests are, for a margin of 25 %; other margins scale it, so that
# each θ stays above what is still healthy: below it a bettor would win against a better revision.
GRID = (1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0)
_GRID_MARGIN = 1.25

# Wealth that is put in after the first tick, beside 1 at the beginning. It costs a quarter more
# evidence for what is bad from the beginning, which is one bad request in ten or less.
LATE = 0.25

# The first burst of bad requests comes before anybody knows that there are bursts. Two ticks in
# which the new revision failed are the least that says "again".
FEWEST_BAD_TICKS = 2

# How often a recorded baseline may be worse than its upper bound. It adds to the false alarms: a
# hundredth of the smallest probability that may be asked for.
BASELINE_RISK = 1e-4

# What is stored of a logarithm; ticks by the thousand add up to less than a bad request weighs.
DIGITS = 4

_LARGEST_EXPONENT = 700.0  # of a float is 709


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Requests, and how many of them were bad: of the new revision and of stable, the baseline."""

    requests: int = 0
    bad: int = 0
    baseline_requests: int = 0
    baseline_bad: int = 0

    def __add__(self, other: "Tick") -> "Tick":
        return Tick(
            requests=self.requests + other.requests,
            bad=self.bad + other.bad,
            baseline_requests=self.baseline_requests + other.baseline_requests,
            baseline_bad=self.baseline_bad + other.baseline_bad,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialTest:
    """All that is to be stored of a gate; the same whether the operator restarted or not."""

    total: Tick = Tick()
    step_requests: int = 0
    """Of the new revision since the step began."""
    ticks: int = 0
    """That were weighed."""
    bad_ticks: int = 0
    """In which the new revision had a bad request."""
    waiting: Tick = Tick()
    """Not weighed yet: one of the revisions had no request."""
    dispersion: Dispersion = field(default_factory=Dispersion)
    """By which all gains are divided; known before the tick that it is used for."""
    log_ratios: tuple[float, ...] = field(default=(0.0,) * len(GRID))
    """The logarithm of each bettor's wealth."""

    def after(self, tick: Tick, *, margin_percent: int) -> "SequentialTest":
        """Both revisions answered requests. Ticks are weighed once both have.

        What stable did before the new revision's first request was at another time, perhaps in
        another weather: it is dropped then, but for the size of its bursts.
        """
        is_first = tick.requests > 0 and not self.total.requests
        begun = replace(self, total=Tick(), waiting=Tick()) if is_first else self
        counted = _counted(begun, tick)
        waiting = counted.waiting
        if not waiting.requests or not waiting.baseline_requests:
            return counted
        gains = _comparisons(waiting, _healthy(margin_percent))
        return _weighed(counted, gains, self.dispersion.factor)

    def after_alone(self, tick: Tick, *, margin_percent: int) -> "SequentialTest":
        """Stable gets no requests any more: what it did before is held against the new revision.

        It counts as the upper bound of what it may have been. A request that stable still ends is
        left out, so that the bound does not move.
        """
        counted = _counted(self, replace(tick, baseline_requests=0, baseline_bad=0))
        total, waiting = counted.total, counted.waiting
        if not waiting.requests or not total.baseline_requests:
            return counted
        rate = upper_bound(total.baseline_bad, total.baseline_requests, risk=BASELINE_RISK)
        gains = _likelihoods(waiting, rate * _healthy(margin_percent))
        return _weighed(counted, gains, self.dispersion.factor)

    def at_next_step(self) -> "SequentialTest":
        return replace(self, step_requests=0)

    @property
    def log_evidence(self) -> float:
        return _log_sum(self.log_ratios) - math.log(len(self.log_ratios))

    @property
    def evidence(self) -> float:
        """E: the mean of the wealths."""
        return math.exp(min(self.log_evidence, _LARGEST_EXPONENT))

    def rejects(self, alpha: float) -> bool:
        """Whether the revision is bad; a healthy one ever is called so with probability `alpha`."""
        is_enough = self.log_evidence >= math.log(evidence_needed(alpha))
        return is_enough and self.bad_ticks >= FEWEST_BAD_TICKS


def evidence_needed(alpha: float) -> float:
    """Ville's inequality: all the wealth that is ever put in, over the probability of a mistake."""
    return (1 + LATE) / alpha


def _counted(test: SequentialTest, tick: Tick) -> SequentialTest:
    return replace(
        test,
        total=test.total + tick,
        step_requests=test.step_requests + tick.requests,
        waiting=test.waiting + tick,
        dispersion=test.dispersion.after(tick.baseline_requests, tick.baseline_bad),
    )


def _weighed(test: SequentialTest, gains: tuple[float, ...], dispersion: float) -> SequentialTest:
    """What was waiting makes each bettor richer or poorer."""
    put_in = _put_in(test.ticks + 1)
    before = [_log_sum((ratio, put_in)) for ratio in test.log_ratios]
    after = [
        round(ratio + gain / dispersion, DIGITS) for ratio, gain in zip(before, gains, strict=True)
    ]
    return replace(
        test,
        ticks=test.ticks + 1,
        bad_ticks=test.bad_ticks + (test.waiting.bad > 0),
        waiting=Tick(),
        log_ratios=tuple(after),
    )


def _healthy(margin_percent: int) -> float:
    """The largest θ of a healthy revision."""
    return 1 + margin_percent / 100


def _put_in(tick: int) -> float:
    """The logarithm of what is put in before this tick: 1/(t·(t-1)), from t = 2 on, sums to 1."""
    return math.log(LATE / (tick * (tick - 1))) if tick > 1 else -math.inf


def _comparisons(tick: Tick, healthy: float) -> tuple[float, ...]:
    """How much better each θ explains the tick, as logarithms: the conditional binomial."""
    bad = tick.bad + tick.baseline_bad
    expected = healthy * tick.requests + tick.baseline_requests
    gains = []
    for theta in GRID:
        ratio = theta / _GRID_MARGIN
        shifted = ratio * healthy * tick.requests + tick.baseline_requests
        gains.append(tick.bad * math.log(ratio) - bad * math.log(shifted / expected))
    return tuple(gains)


def _likelihoods(tick: Tick, healthy: float) -> tuple[float, ...]:
    """The same where a healthy revision's rate has a known bound: the binomial itself."""
    if healthy >= 1:
        return (0.0,) * len(GRID)
    good = max(tick.requests - tick.bad, 0)  # an answer may break a tick after it was counted
    gains = []
    for theta in GRID:
        rate = min(theta / _GRID_MARGIN * healthy, (1 + healthy) / 2)
        gain = tick.bad * math.log(rate / healthy)
        gains.append(gain + good * math.log((1 - rate) / (1 - healthy)))
    return tuple(gains)


def _log_sum(logarithms: tuple[float, ...]) -> float:
    """log Σ exp, without overflow."""
    largest = max(logarithms)
    return largest + math.log(sum(math.exp(one - largest) for one in logarithms))
