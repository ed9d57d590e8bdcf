"""From a request's fields to sampling parameters, with the model's limits and defaults."""

from dataclasses import dataclass, replace

from modelserver_runtime.backends.base import (
    GenerationLimits,
    Grammar,
    SamplingDefaults,
    SamplingParameters,
)
from modelserver_runtime.errors import ContextLengthExceeded, InvalidRequest
from modelserver_runtime.rest.schemas.generation import GenerateParameters, SamplingFields

# The golden ratio of 64 bits: choices of neighbouring seeds do not meet.
_SEED_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long an answer may be: `asked` tokens, or `default` without a wish (None: what fits).

    `param` and `prompt_param` are the fields to name when it does not fit.
    """

    asked: int | None
    default: int | None
    param: str = "max_tokens"
    prompt_param: str = "prompt"


def max_tokens(budget: Budget, prompt_tokens: int, limits: GenerationLimits) -> int:
    if prompt_tokens < 1:  # there would be nothing to compute the next token from
        raise InvalidRequest(
            "The prompt has no tokens; send at least one", param=budget.prompt_param
        )
    room = limits.max_model_length - prompt_tokens
    if room < 1 or (budget.asked or 0) > room:
        wanted = f" and asks for {budget.asked} more" if budget.asked is not None else ""
        raise ContextLengthExceeded(
            f"The prompt has {prompt_tokens} tokens{wanted}; the model holds "
            f"{limits.max_model_length} in all. Shorten the prompt or ask for fewer tokens",
            param=budget.param if room >= 1 else budget.prompt_param,
        )
    if budget.asked is not None:
        return budget.asked
    return room if budget.default is None else min(room, budget.default)


def sampling_of(
    fields: SamplingFields,
    defaults: SamplingDefaults,
    limits: GenerationLimits,
    *,
    longest: int = 0,
    logprobs: int | None = None,
    grammar: Grammar | None = None,
) -> SamplingParameters:
    """`longest` is `max_tokens`, which depends on the prompt."""
    return SamplingParameters(
        max_tokens=longest,
        logprobs=logprobs,
        grammar=grammar,
        min_tokens=fields.min_tokens or 0,
        temperature=_or(fields.temperature, defaults.temperature),
        top_p=_or(fields.top_p, defaults.top_p),
        top_k=max(0, _or(fields.top_k, defaults.top_k)),
        min_p=_or(fields.min_p, defaults.min_p),
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=_or(fields.repetition_penalty, defaults.repetition_penalty),
        seed=fields.seed,
        logit_bias=_known_tokens(fields.logit_bias, limits),
        stop_token_ids=frozenset(fields.stop_token_ids or ()),
        ignore_end=fields.ignore_eos,
    )


def sampling_of_generate(
    parameters: GenerateParameters, defaults: SamplingDefaults
) -> SamplingParameters:
    is_greedy = not parameters.do_sample and parameters.temperature is None
    return SamplingParameters(
        max_tokens=0,
        temperature=0.0 if is_greedy else _or(parameters.temperature, defaults.temperature),
        top_p=_or(parameters.top_p, defaults.top_p),
        top_k=_or(parameters.top_k, defaults.top_k),
        repetition_penalty=_or(parameters.repetition_penalty, defaults.repetition_penalty),
        seed=parameters.seed,
    )


def choice(sampling: SamplingParameters, index: int) -> SamplingParameters:
    """The parameters of one of n choices: with a seed each has its own, so that they differ."""
    if sampling.seed is None or index == 0:
        return sampling
    return replace(sampling, seed=(sampling.seed + index * _SEED_STEP) % 2**63)


def _known_tokens(bias: dict[int, float] | None, limits: GenerationLimits) -> dict[int, float]:
    for token_id in bias or {}:
        if token_id >= limits.vocabulary_size:
            raise InvalidRequest(
                f"logit_bias names token {token_id}, and the model has {limits.vocabulary_size}",
                param=f"logit_bias.{token_id}",
            )
    return bias or {}


def _or[T](value: T | None, default: T) -> T:
    return default if value is None else value
