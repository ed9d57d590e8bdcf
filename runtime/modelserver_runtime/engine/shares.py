"""What each tenant was given of a model, so that who was given least is next."""

from collections import Counter

# Work of a prompt's token, in tokens of an answer: a prompt is computed many tokens at a time,
# which took a tenth of the time per token for a Llama of 125 M parameters on two cores.
PROMPT_SHARE = 0.1


class Shares:
    """Of tenants that have sequences here, in tokens of answers.

    A tenant that comes back starts level with the one that was given least: it neither saves up
    turns nor pays for what it was given while nobody else was here.
    """

    def __init__(self) -> None:
        self._given: dict[str, float] = {}
        self._sequences: Counter[str] = Counter()

    def join(self, tenant: str) -> None:
        """A sequence more."""
        if tenant not in self._sequences:
            level = min((self._given[each] for each in self._sequences), default=0.0)
            self._forget_below(level)
            self._given.setdefault(tenant, level)
        self._sequences[tenant] += 1

    def _forget_below(self, level: float) -> None:
        """Who has no sequence, and would start at the level anyway; all, if nobody is here."""
        self._given = {
            tenant: given
            for tenant, given in self._given.items()
            if tenant in self._sequences or (self._sequences and given > level)
        }

    def leave(self, tenant: str) -> None:
        self._sequences[tenant] -= 1
        if not self._sequences[tenant]:
            del self._sequences[tenant]

    def charge(self, tenant: str, cost: float) -> None:
        self._given[tenant] += cost

    def given(self, tenant: str) -> float:
        return self._given[tenant]
