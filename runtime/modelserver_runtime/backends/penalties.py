"""Makes tokens less likely that a text holds already."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from modelserver_runtime.backends.base import SamplingParameters


class Penalties:
    """Of one sequence. Repetition counts from its prompt on, presence and frequency do not."""

    def __init__(self, parameters: SamplingParameters, prompt_token_ids: Iterable[int]) -> None:
        self._parameters = parameters
        self._place: dict[int, int] = {}
        self._token_ids = np.empty(0, np.intp)
        self._counts = np.empty(0, np.float32)  # in the answer
        if parameters.repetition_penalty != 1:
            for token_id in dict.fromkeys(prompt_token_ids):
                self._place[token_id] = len(self._place)
            self._token_ids = np.fromiter(self._place, np.intp, len(self._place))
            self._counts = np.zeros(len(self._place), np.float32)

    @staticmethod
    def are_wanted(parameters: SamplingParameters) -> bool:
        return parameters.repetition_penalty != 1 or bool(
            parameters.presence_penalty or parameters.frequency_penalty
        )

    def note(self, token_id: int) -> None:
        """Of the answer."""
        place = self._place.get(token_id)
        if place is None:
            place = self._place[token_id] = len(self._place)
            self._token_ids = np.append(self._token_ids, token_id)
            self._counts = np.append(self._counts, np.float32(0))
        self._counts[place] += 1

    def apply(self, logits: NDArray[np.float32]) -> None:
        parameters = self._parameters
        penalised = logits[self._token_ids]
        if parameters.repetition_penalty != 1:
            penalty = np.float32(parameters.repetition_penalty)
            with np.errstate(all="ignore"):  # a penalty may be as small as a number can be
                penalised = np.where(penalised < 0, penalised * penalty, penalised / penalty)
            penalised = np.nan_to_num(penalised)
        penalised -= np.float32(parameters.frequency_penalty) * self._counts
        penalised -= np.float32(parameters.presence_penalty) * (self._counts > 0)
        logits[self._token_ids] = penalised
