"""The model's vocabulary: one word is one token, so that text says exactly which tokens it is."""

import random
from collections.abc import Sequence
from functools import cache
from itertools import product

VOCABULARY_SIZE = 32_000
END_OF_TEXT = "<end>"
UNKNOWN = "<unknown>"
USER_TURN = "<user>"
ASSISTANT_TURN = "<assistant>"
SPECIAL_TOKENS = (END_OF_TEXT, UNKNOWN, USER_TURN, ASSISTANT_TURN)

# Put around the text of a user's message: the words USER_TURN and ASSISTANT_TURN, one token each.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<' + message['role'] + '> ' + message['content'] + ' ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
CHAT_TOKENS = 2

_SYLLABLES = [consonant + vowel for consonant, vowel in product("bdfgklmnprstvz", "aeiou")]


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token in the order of its id: the special ones, then words of three syllables."""
    words = ("".join(syllables) for syllables in product(_SYLLABLES, repeat=3))
    ordinary = VOCABULARY_SIZE - len(SPECIAL_TOKENS)
    return (*SPECIAL_TOKENS, *(word for word, _ in zip(words, range(ordinary), strict=False)))


@cache
def _ids() -> dict[str, int]:
    return {word: token_id for token_id, word in enumerate(vocabulary())}


def token_ids(text: str) -> tuple[int, ...]:
    """The tokens of a text; raises KeyError for what is not a word of the vocabulary."""
    return tuple(_ids()[word] for word in text.split())


def chat_token_ids(message: str) -> tuple[int, ...]:
    """The tokens of a prompt that holds one message of a user."""
    return token_ids(f"{USER_TURN} {message} {ASSISTANT_TURN}")


def messages(count: int, *, prompt_tokens: int, seed: int) -> Sequence[str]:
    """Different random texts; with the chat template each makes `prompt_tokens` tokens."""
    chance = random.Random(seed)
    words = vocabulary()[len(SPECIAL_TOKENS) :]
    length = prompt_tokens - CHAT_TOKENS
    return [" ".join(chance.choices(words, k=length)) for _ in range(count)]
