"""Which blocks of keys and values each sequence of a model has."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelserver_runtime.backends.native.blocks import BLOCK_TOKENS, BlockPool, PrefixKeys


@dataclass(slots=True, kw_only=True)
class CachedSequence:
    """`token_ids` are those of the prompt and of the answer so far; `computed` of them are cached.

    `blocks` has room for more than are in use, so that it need not grow at every step; the first
    `held` entries are real. `published` blocks can be found by others. The first `reused` tokens
    were computed for somebody else when it began for the first time (None: it has not).
    One that does not `find` computes every token of its prompt.
    """

    token_ids: list[int]
    keys: PrefixKeys
    blocks: NDArray[np.int32]
    finds: bool = True
    held: int = 0
    computed: int = 0
    published: int = 0
    reused: int | None = None
    is_begun: bool = False


class BlockTables:
    """See `backends.base.SequenceMemory`."""

    def __init__(self, pool: BlockPool, sequences: Mapping[int, CachedSequence]) -> None:
        self.pool = pool
        self.block_tokens = BLOCK_TOKENS
        self.blocks = pool.available
        self._sequences = sequences

    @property
    def available(self) -> int:
        return self.pool.available

    def begin(self, sequence_id: int) -> int:
        """All but the last token, whose logits are wanted. Harmless for one that has begun."""
        sequence = self._sequences[sequence_id]
        if not sequence.is_begun:
            sequence.is_begun = True
            self._find(sequence)
            if sequence.reused is None:
                sequence.reused = sequence.computed
        return sequence.computed

    def _find(self, sequence: CachedSequence) -> None:
        if not sequence.finds:
            return
        sequence.keys.cover(sequence.token_ids)
        most = (len(sequence.token_ids) - 1) // BLOCK_TOKENS
        found = self.pool.find(sequence.keys[:most])
        sequence.blocks[: len(found)] = found
        sequence.held = sequence.published = len(found)
        sequence.computed = len(found) * BLOCK_TOKENS

    def grow(self, sequence_id: int, tokens: int) -> None:
        sequence = self._sequences[sequence_id]
        while sequence.held * BLOCK_TOKENS < tokens:
            sequence.blocks[sequence.held] = self.pool.take()
            sequence.held += 1

    def publish(self, sequence: CachedSequence) -> None:
        """Full blocks can be found from now on; of answers too, for the next turn of a chat."""
        full = sequence.computed // BLOCK_TOKENS
        if full > len(sequence.keys):
            sequence.keys.cover(sequence.token_ids)
        for index in range(sequence.published, full):
            self.pool.publish(int(sequence.blocks[index]), sequence.keys[index])
        sequence.published = max(sequence.published, full)

    def release(self, sequence_id: int) -> None:
        """Also of one that is gone."""
        sequence = self._sequences.get(sequence_id)
        if sequence is None:
            return
        # The last one first: without the blocks before it, a block that is kept is never found.
        for block in reversed(sequence.blocks[: sequence.held].tolist()):
            self.pool.release(block)
        sequence.held = sequence.computed = sequence.published = 0
        sequence.is_begun = False
