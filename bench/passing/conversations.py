"""Chats of several turns, each of which sends all that was said before."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from bench.fronting.asking import Client
from bench.passing.caching_replica import BLOCK_TOKENS, tokens_of

ROUTE = "/v1/chat/completions"
CONVERSATIONS = 256
TURNS = 8
USER_WORDS, ANSWER_WORDS = 48, 48
# What all conversations begin with, by kind.
INSTRUCTION_WORDS: Mapping[str, int] = {"chats": 0, "instructed_chats": 128}
AT_A_TIME = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A turn is asked with these tokens, or is answered and has these in all."""

    conversation: str
    tokens: Sequence[str]
    is_answer: bool


@dataclass(slots=True)
class Found:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    events: list[Event] = field(default_factory=list)

    @property
    def hit_percent(self) -> float:
        return 100 * self.cached_tokens / self.prompt_tokens


class _Conversation:
    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.turns = 0
        instructions = _words("s", INSTRUCTION_WORDS[kind])
        self.messages = [_message("system", instructions)] if instructions else []

    @property
    def is_over(self) -> bool:
        return self.turns >= TURNS

    async def say(self, client: Client, found: Found) -> None:
        self.turns += 1
        said = _words(f"{self.name}.{self.turns}.", USER_WORDS)
        self.messages.append(_message("user", said))
        found.events.append(self._event(is_answer=False))
        body = {"model": "bench", "messages": self.messages, "max_tokens": ANSWER_WORDS}
        reply = await client.post(ROUTE, body)
        answer = reply.json()
        usage = answer["usage"]
        found.prompt_tokens += usage["prompt_tokens"]
        found.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
        self.messages.append(answer["choices"][0]["message"])
        found.events.append(self._event(is_answer=True))

    def _event(self, *, is_answer: bool) -> Event:
        tokens = tokens_of(self.messages)
        return Event(conversation=self.name, tokens=tokens, is_answer=is_answer)


def blocks_of_all(kind: str) -> int:
    """What all conversations have when they are over, the instructions once."""
    tokens = INSTRUCTION_WORDS[kind] + CONVERSATIONS * TURNS * (USER_WORDS + ANSWER_WORDS + 2)
    return tokens // BLOCK_TOKENS


async def converse(client: Client, kind: str, random: Random) -> Found:
    """Always so many at a time; who has the next turn is left to chance."""
    found = Found()
    names = [f"{random.randrange(1 << 32):x}-{number}" for number in range(CONVERSATIONS)]
    waiting = [_Conversation(name, kind) for name in names]

    async def go_on() -> None:
        while waiting:
            one = waiting.pop(random.randrange(len(waiting)))
            await one.say(client, found)
            if not one.is_over:
                waiting.append(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(go_on())
    return found


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _words(prefix: str, count: int) -> str:
    return " ".join(f"{prefix}{number}" for number in range(count))
