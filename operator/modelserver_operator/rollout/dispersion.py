"""How many requests fail together: bad requests of one burst are one piece of evidence.

When a connection breaks or a pod stalls, all of its requests fail. If bad requests come in bursts
of b, the counts of two neighbouring ticks differ b times as much (in squares) as they would by
chance: Pearson's statistic of k_2 of k_1 + k_2 bad requests has the mean b. It looks at neighbours,
so that a rate that changes slowly is none. All evidence is divided by it, as quasi-likelihood does
(Wedderburn 1974), which for bursts of equal size is the evidence of the bursts themselves. Where
requests fail alone it is 1, and a factor above 1 only ever makes a test more careful.
"""

from dataclasses import dataclass, replace

DIGITS = 4

# An incident's beginning and end differ from their neighbours as much as large bursts do; so one
# tick can say no more than this, and larger bursts are taken for bursts of so many.
_LARGEST = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """Of the stable revision, which has most of the requests while it matters."""

    mean: float = 1.0
    pairs: int = 0
    """Over how many `mean` is one; before the first, requests are believed to fail alone."""
    requests: int = 0
    """Of the last tick."""
    bad: int = 0

    @property
    def factor(self) -> float:
        return max(self.mean, 1.0)

    def after(self, requests: int, bad: int) -> "Dispersion":
        """Ticks without requests are passed over, and two without bad ones say nothing."""
        if not requests:
            return self
        latest = replace(self, requests=requests, bad=bad)
        if not self.requests or not self.bad + bad:
            return latest
        seen = min(_pearson(self, latest), _LARGEST)
        pairs = self.pairs + 1
        mean = round(self.mean + (seen - self.mean) / pairs, DIGITS)
        return replace(latest, mean=mean, pairs=pairs)


def _pearson(before: Dispersion, after: Dispersion) -> float:
    """(observed - expected)² / variance, of the later one's part of the bad requests."""
    share = after.requests / (before.requests + after.requests)
    bad = before.bad + after.bad
    return (after.bad - share * bad) ** 2 / (bad * share * (1 - share))
