"""The pods of one model: what each has to do, and which one is next."""

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from random import Random

from modelserver_runtime.gateway.balance.affinity import BOUND, CROWDED_BOUND, owner
from modelserver_runtime.gateway.balance.outliers import Outliers


class Balancer[P: Hashable]:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._work: Counter[P] = Counter()
        self._asked: Counter[bytes] = Counter()  # how often each key, now
        self._outliers: Outliers[P] = Outliers()
        self._pods: tuple[P, ...] = ()

    @property
    def pods(self) -> tuple[P, ...]:
        return self._pods

    @property
    def in_flight(self) -> int:
        return self._work.total()

    def follow(self, pods: Sequence[P]) -> None:
        self._pods = tuple(pods)
        self._outliers.keep(pods)

    def choose(self, *, now: float, key: bytes = b"", without: Collection[P] = ()) -> P | None:
        """`without` are those that this request has tried; None if nobody is left.

        With a `key` its owner, else whoever has the least to do.
        """
        left = [pod for pod in self._pods if pod not in without]
        if len(left) <= 1:
            return left[0] if left else None
        pods = self._outliers.usable(left, now)
        if key:
            bound = CROWDED_BOUND if key in self._asked else BOUND
            return owner(pods, key, self._work, bound=bound)
        least = min(self._work[pod] for pod in pods)
        return self._random.choice([pod for pod in pods if self._work[pod] == least])

    def begin(self, pod: P, key: bytes = b"") -> None:
        self._work[pod] += 1
        if key:
            self._asked[key] += 1

    def end(self, pod: P, key: bytes = b"") -> None:
        _take_one(self._work, pod)
        _take_one(self._asked, key)

    def note(self, pod: P, *, is_well: bool, now: float) -> None:
        """Whether it answered."""
        if pod in self._pods:
            self._outliers.note(pod, is_well=is_well, now=now)


def _take_one[T: Hashable](counts: Counter[T], name: T) -> None:
    """Counters keep what they have none of."""
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
