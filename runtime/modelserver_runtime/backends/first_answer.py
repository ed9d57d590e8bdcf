"""A first answer of a model that generates text: it shows that the model can, and warms it up."""

from modelserver_runtime.backends.base import (
    GenerationBackend,
    SamplingParameters,
    SequenceSpec,
    Work,
)

_PROMPT_TOKENS = 8


def answer_once(backend: GenerationBackend) -> None:
    """Two steps of a greedy answer: a prompt, then a token after it; raises if it cannot."""
    prompt = tuple(index % backend.limits.vocabulary_size for index in range(_PROMPT_TOKENS))
    sampling = SamplingParameters(max_tokens=2, temperature=0)
    backend.add(SequenceSpec(sequence_id=-1, prompt_token_ids=prompt, sampling=sampling))
    try:
        for tokens in (len(prompt), 1):
            [output] = backend.step([Work(sequence_id=-1, tokens=tokens)])
            if output.failure is not None:
                raise RuntimeError(output.failure)
    finally:
        backend.free(-1)
