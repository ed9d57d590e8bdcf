"""The README that lies beside the weights."""

from collections.abc import Mapping

from quickstart_model.asking import Score

_CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
language: en
license: apache-2.0
---

# The quickstart's model

{parameters:.1f} million weights in Llama's architecture, trained from nothing for about a minute
on a CPU by `examples/quickstart_model`. It knows the few hundred answers of its training text and
nothing else: ModelServer and Kubernetes in one sentence each, small talk, sums up to ten plus ten,
colours, opposites, days and months. It exists so that a cluster without internet has a model that
really answers. Do not use it for anything but trying out.

Asked in wordings that it was not trained on, it answered letter for letter as taught:

| about | right | asked | share |
|---|---:|---:|---:|
{rows}

{steps} steps, {seconds:.0f} seconds, last loss {loss:.3f}. Conversations of more than a few turns
are beyond it.
"""


def card(
    scores: Mapping[str, Score], *, parameters: int, steps: int, seconds: float, loss: float
) -> str:
    rows = "\n".join(
        f"| {kind} | {score.exact} | {score.asked} | {score.percent:.0f} % |"
        for kind, score in scores.items()
    )
    return _CARD.format(
        parameters=parameters / 1e6, rows=rows, steps=steps, seconds=seconds, loss=loss
    )
