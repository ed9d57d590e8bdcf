"""Which revision answers a request: experiments first, then what sticks, then the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from modelserver_runtime.gateway.headers import RawHeaders, cookie_of, credential_of, values_of
from modelserver_runtime.gateway.route import Experiment, Route
from modelserver_runtime.gateway.splitter import YES, Urn, owner, point, sample

_PERCENT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """What is known of who asks; `address` is the client's."""

    headers: RawHeaders
    address: str

    @property
    def user(self) -> str:
        """The API key, or else the address: the same text for the same user."""
        return credential_of(self.headers) or f"address {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`is_new_cookie`: the client is to be told which revision answered it."""

    revision: str
    experiment: str | None = None
    is_new_cookie: bool = False


class Chooser:
    """Of one route. It goes on where `before` was if the weights are the same."""

    def __init__(self, route: Route, random: Random, before: "Chooser | None" = None) -> None:
        self._route = route
        self._shares = route.shares
        self._urn = Urn(self._shares, random)
        if before is not None and before._urn.weights == self._urn.weights:  # noqa: SLF001  its own
            self._urn = before._urn  # noqa: SLF001  its own
        self._copies = sample(route.mirror.percent, random) if route.mirror else None

    def choose(self, asker: Asker) -> Choice:
        for experiment in self._route.experiments:
            if _takes_part(experiment, asker):
                return Choice(revision=experiment.revision, experiment=experiment.name)
        return self._by_stickiness(asker) or Choice(revision=self._urn.draw())

    def is_copied(self) -> bool:
        """Asked once for each request that may be copied."""
        return self._copies is not None and self._copies.draw() == YES

    def _by_stickiness(self, asker: Asker) -> Choice | None:
        sticky = self._route.sticky
        if sticky is None:
            return None
        if sticky.cookie is not None:
            revision = cookie_of(asker.headers, sticky.cookie)
            # A revision without weight gets nobody any more: a way back must reach everyone.
            if revision in self._shares:
                return Choice(revision=revision)
            return Choice(revision=self._urn.draw(), is_new_cookie=True)
        user = asker.user if sticky.user_key else _first(values_of(asker.headers, sticky.header))
        return Choice(revision=self._owner(user)) if user else None

    def _owner(self, user: str) -> str:
        return owner(user, self._shares, salt=self._route.server)


def _takes_part(experiment: Experiment, asker: Asker) -> bool:
    if experiment.header is not None:
        return experiment.header.value in values_of(asker.headers, experiment.header.name)
    if experiment.cookie is not None:
        return cookie_of(asker.headers, experiment.cookie.name) == experiment.cookie.value
    share = (experiment.user_key_percent or 0) / _PERCENT
    return point("experiment", experiment.name, asker.user) < share


def _first(values: Sequence[str]) -> str:
    return values[0] if values else ""
