"""What the holder needs of the world around it."""

from dataclasses import dataclass
from typing import Protocol

from modelserver_runtime.gateway.cluster import Address, ServedModel


class Wakes(Protocol):
    async def wake(self, model: ServedModel) -> bool:
        """From 0 to 1; False if it was awake already. Raises ClusterFailure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """`stage` is how far its start has come, in words, or empty.

    `is_silent`: it answers and says nothing of being ready, so that only the cluster knows.
    """

    is_ready: bool
    is_silent: bool = False
    stage: str = ""


class Probe(Protocol):
    async def __call__(self, address: Address) -> Probed:
        """Never raises; who does not answer is not ready."""
