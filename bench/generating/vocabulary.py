"""Between text and tokens, of a model's own tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.serving import words


class Vocabulary(Protocol):
    def prompt(self, message: str) -> tuple[int, ...]:
        """The tokens of a prompt that holds one message of a user."""
        ...

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of an answer."""
        ...


class Words:
    """Of the models of random weights; raises KeyError for what is no word of theirs."""

    def prompt(self, message: str) -> tuple[int, ...]:
        return words.chat_token_ids(message)

    def tokens(self, text: str) -> tuple[int, ...]:
        return words.token_ids(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Of a model with a tokenizer of its own: every engine's text is counted by the same one."""

    tokenizer: Any

    def prompt(self, message: str) -> tuple[int, ...]:
        given = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": message}], add_generation_prompt=True, return_dict=True
        )
        return tuple(given["input_ids"])

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))


def trained(folder: Path) -> Trained:
    from transformers import AutoTokenizer  # noqa: PLC0415  takes seconds

    return Trained(tokenizer=AutoTokenizer.from_pretrained(folder))
