"""The memory of a model that there is not: blocks are counted, and nothing is in them."""

from collections import OrderedDict

BLOCK = 4


class SimulatedMemory:
    """See `backends.base.SequenceMemory`; full blocks of who gave way are kept while none lacks.

    `cached` are the tokens of each sequence that are computed.
    """

    block_tokens = BLOCK

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.held: dict[int, int] = {}
        self.cached: dict[int, int] = {}
        self._kept: OrderedDict[int, int] = OrderedDict()

    @property
    def available(self) -> int:
        return self.blocks - sum(self.held.values())

    def begin(self, sequence_id: int) -> int:
        self.held[sequence_id] = self._kept.pop(sequence_id, 0)
        self.cached[sequence_id] = self.held[sequence_id] * BLOCK
        return self.cached[sequence_id]

    def grow(self, sequence_id: int, tokens: int) -> None:
        blocks = -(-tokens // BLOCK)
        lacked = max(0, blocks - self.held[sequence_id])
        assert lacked <= self.available, "more blocks are taken than there are"
        self.held[sequence_id] += lacked
        while self._kept and sum(self._kept.values()) > self.available:
            self._kept.popitem(last=False)

    def release(self, sequence_id: int) -> None:
        if sequence_id in self.held:
            del self.held[sequence_id]
            self._kept[sequence_id] = max(0, self.cached.pop(sequence_id) - 1) // BLOCK
