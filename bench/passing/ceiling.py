"""What could be found cached at best, played in the order in which requests came and were answered.

One cache without a limit finds whatever was there before: no way of dividing requests finds more.
Whoever always goes where the longest prefix lies has the limits of the replicas and none of load.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.passing.caching_replica import PrefixCache
from bench.passing.conversations import Event, Found


def found_without_limit(events: Iterable[Event]) -> Found:
    return _played(events, [PrefixCache(sys.maxsize)])


def found_at_longest_prefix(events: Iterable[Event], *, replicas: int, blocks: int) -> Found:
    """Of several that have as much, whoever has the least to do."""
    return _played(events, [PrefixCache(blocks) for _ in range(replicas)])


def _played(events: Iterable[Event], caches: Sequence[PrefixCache]) -> Found:
    found = Found()
    work: Counter[int] = Counter()
    asked: dict[str, int] = {}
    for event in events:
        if event.is_answer:
            replica = asked.pop(event.conversation)
            work[replica] -= 1
        else:
            cached = [cache.cached(event.tokens) for cache in caches]
            replica = max(range(len(caches)), key=lambda one: (cached[one], -work[one]))
            found.prompt_tokens += len(event.tokens)
            found.cached_tokens += cached[replica]
            asked[event.conversation] = replica
            work[replica] += 1
        caches[replica].keep(event.tokens)
    return found
