"""A request as the engine knows it: what is wanted, by when, and for whom."""

from dataclasses import dataclass, field
from enum import IntEnum

from modelserver_runtime.backends.base import SamplingParameters
from modelserver_runtime.engine.output import TextRules
from modelserver_runtime.timing import RequestTiming


class Priority(IntEnum):
    """Who goes first when requests wait; the higher, the earlier."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """`arrived` and `deadline` are readings of the monotonic clock, in seconds.

    Requests of one `tenant` share what it gets; empty when callers are not told apart.
    """

    arrived: float
    deadline: float
    priority: Priority = Priority.NORMAL
    tenant: str = ""
    timing: RequestTiming = field(default_factory=RequestTiming, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to be continued once; a client's request may hold several.

    Only requests with the same `cache_salt`, which a client may choose, share anything.
    `prediction` is what the client expects as an answer, in tokens; it changes nothing but time.
    """

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    rules: TextRules
    cache_salt: str = ""
    prediction: tuple[int, ...] = ()
