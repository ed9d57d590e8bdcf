"""A request as the engine knows it, and when it happened."""

from dataclasses import dataclass

from modelserver_runtime.backends.base import SamplingParameters
from modelserver_runtime.engine.output import TextRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Readings of the monotonic clock, in seconds."""

    arrived: float
    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One prompt to be continued once; a client's request may hold several."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParameters
    rules: TextRules
