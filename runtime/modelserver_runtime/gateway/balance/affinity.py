"""Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam 2016), by rendezvous.

Each pod draws a number for a key; the best one has it, while it has no more than its share of the
work, and otherwise the next best. So a conversation stays where its prefix is cached, a pod that
comes or goes moves no more keys than it must, and one that everybody asks the same is still spread.
"""

import functools
import math
from collections.abc import Hashable, Iterable, Mapping
from hashlib import blake2b

# Of the average work of a pod. A conversation asks one thing at a time, and elsewhere its whole
# prompt is computed again, which costs more than to be two among the others: played on four pods
# with 4 to 128 requests at a time, 2 found 98 to 100 % of what can be found with four for each pod
# or more, and 1.5 found 90 to 98, with longer waits on average and of the worst twentieth.
BOUND = 2.0
# What several ask with the same beginning at the same time is no conversation but, say, the same
# question: every pod has it soon, and those that a wide bound leaves idle could answer it.
CROWDED_BOUND = 1.25


def ranked[P: Hashable](pods: Iterable[P], key: bytes) -> list[P]:
    """The best one first; always in the same order for the same key."""
    digest = blake2b(key, digest_size=16).digest()  # a key may be long, and each pod draws of it
    return sorted(pods, key=lambda pod: _draw(str(pod), digest), reverse=True)


def owner[P: Hashable](
    pods: Iterable[P], key: bytes, work: Mapping[P, int], *, bound: float = BOUND
) -> P:
    """`work` are the requests that each pod has now; this one is counted, too."""
    order = ranked(pods, key)
    most = largest_share(sum(work.get(pod, 0) for pod in order), len(order), bound)
    return next(pod for pod in order if work.get(pod, 0) < most)


def largest_share(work: int, pods: int, bound: float) -> int:
    return math.ceil(bound * (work + 1) / pods)


def _draw(pod: str, digest: bytes) -> bytes:
    return blake2b(digest, key=_seed(pod), digest_size=8).digest()


@functools.lru_cache(maxsize=4096)
def _seed(pod: str) -> bytes:
    return blake2b(pod.encode()).digest()
