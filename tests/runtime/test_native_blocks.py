"""Blocks of keys and values: who has them, who may find them, and that none is lost."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from modelserver_runtime.backends.native.blocks import (
    BLOCK_TOKENS,
    BlockPool,
    OutOfBlocks,
    keys_of,
)

BLOCKS = 5


def tokens(*counts):
    """A prompt of whole blocks, each filled with its own number."""
    return [number for number in counts for _ in range(BLOCK_TOKENS)]


def test_a_prefix_is_found_by_who_begins_with_the_same_tokens():
    pool = BlockPool(BLOCKS, most_unused=BLOCKS)
    first, second = pool.take(), pool.take()
    for block, key in zip((first, second), keys_of("", tokens(1, 2)), strict=True):
        pool.publish(block, key)
    assert pool.find(list(keys_of("", tokens(1, 2, 3)))) == [first, second]
    assert pool.find(list(keys_of("", tokens(1, 3)))) == [first]
    assert pool.find(list(keys_of("", tokens(2, 1)))) == []


def test_a_prefix_is_not_found_under_another_salt():
    pool = BlockPool(BLOCKS, most_unused=BLOCKS)
    pool.publish(pool.take(), *keys_of("one", tokens(1)))
    assert pool.find(list(keys_of("other", tokens(1)))) == []


def test_the_longest_unused_prefix_makes_room():
    pool = BlockPool(2, most_unused=2)
    keys = [*keys_of("", tokens(1)), *keys_of("", tokens(2))]
    for key in keys:
        block = pool.take()
        pool.publish(block, key)
        pool.release(block)
    pool.take()
    assert pool.find(keys[:1]) == []
    assert len(pool.find(keys[1:])) == 1


def test_no_more_unused_prefixes_are_kept_than_allowed():
    pool = BlockPool(BLOCKS, most_unused=1)
    for number in range(3):
        block = pool.take()
        pool.publish(block, *keys_of("", tokens(number)))
        pool.release(block)
    known = [bool(pool.find(list(keys_of("", tokens(number))))) for number in range(3)]
    assert known == [False, False, True]


def test_when_all_are_in_use_there_is_none():
    pool = BlockPool(1, most_unused=1)
    pool.take()
    with pytest.raises(OutOfBlocks):
        pool.take()


@given(st.lists(st.integers(0, 3), max_size=5 * BLOCK_TOKENS), st.integers(0, BLOCK_TOKENS))
def test_there_is_a_key_for_each_full_block(token_ids, more):
    keys = list(keys_of("", token_ids))
    assert len(keys) == len(token_ids) // BLOCK_TOKENS
    longer = list(keys_of("", [*token_ids, *[9] * more]))
    assert longer[: len(keys)] == keys


class Users(RuleBasedStateMachine):
    """Sequences come with prompts of a few kinds and go again, in any order."""

    def __init__(self):
        super().__init__()
        self.pool = BlockPool(BLOCKS, most_unused=3)
        self.held = []

    @rule(prompt=st.lists(st.integers(0, 1), min_size=1, max_size=3))
    def come(self, prompt):
        keys = list(keys_of("", tokens(*prompt)))
        blocks = self.pool.find(keys)
        try:
            while len(blocks) < len(keys):
                blocks.append(self.pool.take())
                self.pool.publish(blocks[-1], keys[len(blocks) - 1])
        except OutOfBlocks:
            assert self.pool.available == 0
        self.held.append(blocks)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def go(self, data):
        index = data.draw(st.integers(0, len(self.held) - 1))
        for block in self.held.pop(index):
            self.pool.release(block)

    @invariant()
    def every_block_is_used_or_available(self):
        used = Counter(block for blocks in self.held for block in blocks)
        assert self.pool.available + len(used) == BLOCKS


TestUsers = Users.TestCase
