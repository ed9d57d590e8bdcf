"""How requests and users are divided by weights. Pure: where chance is needed it is handed in."""

import math
from collections.abc import Mapping
from functools import reduce
from hashlib import blake2b
from random import Random

_POINTS = 2**64


class Urn:
    """Draws tickets without putting them back; an empty urn is filled again.

    So the shares are exact after each filling, and a weight of 5 never waits for its request much
    longer than 20 others; but which request gets a ticket is chance, so that no rhythm of a client
    can meet a rhythm of ours, as it would if revisions took turns.
    """

    def __init__(self, weights: Mapping[str, int], random: Random) -> None:
        self._weights = {name: weight for name, weight in weights.items() if weight}
        divisor = reduce(math.gcd, self._weights.values())
        self._filling = {name: weight // divisor for name, weight in self._weights.items()}
        self._random = random
        self._fill()

    @property
    def weights(self) -> Mapping[str, int]:
        return self._weights

    def draw(self) -> str:
        if not self._left:
            self._fill()
        ticket = self._random.randrange(self._left)
        self._left -= 1
        for name, count in self._tickets.items():
            if ticket < count:
                self._tickets[name] = count - 1
                return name
            ticket -= count
        raise AssertionError("an urn holds as many tickets as it counts")

    def _fill(self) -> None:
        self._tickets = dict(self._filling)
        self._left = sum(self._filling.values())


def sample(percent: int, random: Random) -> Urn:
    """An urn with the tickets "yes", so many of a hundred, and "no"."""
    return Urn({YES: percent, "no": 100 - percent}, random)


YES = "yes"


def point(*names: str) -> float:
    """Between 0 and 1, evenly over all names, and always the same for the same ones."""
    digest = blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / _POINTS


def owner(user: str, weights: Mapping[str, int], salt: str) -> str:
    """The revision of a user: rendezvous hashing with weights (Schindelhauer, Schomaker 2005).

    Each revision draws a number for the user, by its weight; the best one has him. When one weight
    rises users come to it, and none change between the others.
    """
    drawn = {
        revision: math.log(point(salt, revision, user)) / weight
        for revision, weight in weights.items()
        if weight
    }
    return max(drawn, key=drawn.__getitem__)
