"""What a rollout may meet: traffic, requests that fail anyway, and a revision that is bad."""

from dataclasses import dataclass
from enum import StrEnum


class Truth(StrEnum):
    HEALTHY = "healthy"
    BAD = "bad"
    """To be rolled back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The time until somebody looks, and the share of the new revision during it."""

    weight: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    requests_per_second: float
    error_rate: float
    times: float = 1.0
    """How many times as often the new revision fails."""
    bad_from_look: int = 0
    """Until then it is healthy."""
    incident: tuple[int, int, float] | None = None
    """Looks from, to, and the rate at which both revisions fail meanwhile."""
    burst: int = 1
    """How many requests fail together."""
    looks: tuple[Look, ...] = ()

    @property
    def truth(self) -> Truth:
        return Truth.HEALTHY if self.times <= 1 else Truth.BAD

    @property
    def is_looked_at_each_minute(self) -> bool:
        """As the rules do that the gate is compared with."""
        return all(look.seconds == 60 for look in self.looks)

    @property
    def is_independent(self) -> bool:
        """Whether requests fail independently of each other, as the test assumes."""
        return self.burst == 1


# Ten weights of five minutes with a look a minute: a usual length of a careful canary.
_WEIGHTS = (1, 5, 10, 20, 30, 40, 50, 60, 80, 90)
TEN_STEPS = tuple(Look(weight=weight / 100, seconds=60) for weight in _WEIGHTS for _ in range(5))

# The steps and the interval of a rollout that says nothing about them, and its bake: 100 %.
_DEFAULT = ((0.05, 120), (0.25, 120), (0.5, 120), (1.0, 300))
DEFAULT_STEPS = tuple(
    Look(weight=weight, seconds=15) for weight, seconds in _DEFAULT for _ in range(seconds // 15)
)
_BAKE = next(number for number, look in enumerate(DEFAULT_STEPS) if look.weight == 1)


def _hours(hours: int) -> tuple[Look, ...]:
    return (Look(weight=0.1, seconds=60),) * (60 * hours)


# Requests a second, and the rate at which they fail anyway.
TRAFFIC = ((1, 0.005), (5, 0.001), (5, 0.005), (20, 0.005), (100, 0.001), (100, 0.005))
_THIN = ((0.2, 0.005), (0.2, 0.001), (1, 0.001), (20, 0.001))
_TIMES = (1.0, 3.0, 10.0)


def all_scenarios() -> tuple[Scenario, ...]:
    return (*_steady(), *_incidents(), *_late(), *_bursts(), *_defaults())


def _steady() -> tuple[Scenario, ...]:
    compared = [(rate, error, times) for rate, error in TRAFFIC for times in _TIMES]
    thin = [(rate, error, 1.0) for rate, error in _THIN]
    return tuple(
        Scenario(
            name=f"{rate:g}rps_{100 * error:g}%_{'healthy' if times == 1 else f'{times:g}x'}",
            requests_per_second=rate,
            error_rate=error,
            times=times,
            looks=TEN_STEPS,
        )
        for rate, error, times in (*compared, *thin)
    )


def _incidents() -> tuple[Scenario, ...]:
    """Both revisions fail for six minutes: a database, a node, a network."""
    return tuple(
        Scenario(
            name=f"{rate:g}rps_0.2%_incident",
            requests_per_second=rate,
            error_rate=0.002,
            incident=(19, 25, 0.03),
            looks=TEN_STEPS,
        )
        for rate in (5, 20, 100)
    )


def _late() -> tuple[Scenario, ...]:
    """Four hours at 10 %; the revision turns bad after three."""
    return tuple(
        Scenario(
            name=f"20rps_0.5%_{times:g}x_after_3h",
            requests_per_second=20,
            error_rate=0.005,
            times=times,
            bad_from_look=180,
            looks=_hours(4),
        )
        for times in (3.0, 10.0)
    )


def _bursts() -> tuple[Scenario, ...]:
    """A healthy revision whose errors come together, against what the test assumes."""
    return tuple(
        Scenario(
            name=f"20rps_0.5%_bursts_of_{burst}",
            requests_per_second=20,
            error_rate=0.005,
            burst=burst,
            looks=TEN_STEPS,
        )
        for burst in (2, 5, 20)
    )


def _defaults() -> tuple[Scenario, ...]:
    """The second kind turns bad when the other revision has no requests any more."""
    kinds = [("", times, 0) for times in _TIMES] + [("_in_bake", 10.0, _BAKE)]
    return tuple(
        Scenario(
            name=f"20rps_0.5%_default_steps_{'healthy' if times == 1 else f'{times:g}x'}{when}",
            requests_per_second=20,
            error_rate=0.005,
            times=times,
            bad_from_look=begin,
            looks=DEFAULT_STEPS,
        )
        for when, times, begin in kinds
    )
