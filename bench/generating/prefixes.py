"""Chats that all begin with the same long system prompt: how soon the first token comes.

One request at a time: turn by turn, the chats one after another, so that what is known of a chat
must outlive fifteen others. Without reuse each request has a `cache_salt` of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

import aiohttp

from bench.generating.asking import session
from bench.generating.workload import text
from bench.serving import words
from bench.serving.client import Endpoint, Recording, read, record
from bench.serving.engines import EngineFailed
from bench.serving.model_folder import SEED

CHATS = 16
TURNS = 6
SYSTEM_TOKENS = 400
_MESSAGE_TOKENS = (16, 64)
_ANSWER_TOKENS = 32
WITH, WITHOUT = "with_reuse", "without_reuse"

type Message = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """All chats once: seconds to the first token in the order they were asked, and all answers."""

    way: str
    first_token_seconds: Sequence[float]
    answers: Sequence[tuple[int, ...]]

    def as_round(self, number: int) -> dict[str, Any]:
        return {
            "part": "prefix",
            "round": number,
            "way": self.way,
            "first_token_milliseconds_p50": round(1000 * median(self.first_token_seconds), 2),
            "first_token_milliseconds": [round(1000 * it, 2) for it in self.first_token_seconds],
        }


async def talk(endpoint: Endpoint, way: str, number: int, *, chats: int = CHATS) -> Talk:
    """The same texts in both ways of a round, and others in every round."""
    chance = Random(SEED + number)
    system = {"role": "system", "content": text(chance, SYSTEM_TOKENS)}
    known: list[list[Message]] = [[system] for _ in range(chats)]
    seconds, answers = [], []
    async with session() as client:
        for turn in range(TURNS):
            for index, chat in enumerate(known):
                message = text(chance, chance.randint(*_MESSAGE_TOKENS))
                chat.append({"role": "user", "content": message})
                salt = f"{number}-{way}" + (f"-{turn}-{index}" if way == WITHOUT else "")
                recording = await _asked(client, endpoint, chat, salt)
                answer = read(recording, words.token_ids)
                if answer.failure:
                    raise EngineFailed(f"turn {turn} of chat {index}: {answer.failure}")
                seconds.append(answer.first_token_seconds)
                answers.append(answer.token_ids)
                said = " ".join(words.vocabulary()[it] for it in answer.token_ids)
                chat.append({"role": "assistant", "content": said})
    return Talk(way=way, first_token_seconds=seconds, answers=answers)


async def _asked(
    client: aiohttp.ClientSession, endpoint: Endpoint, chat: Sequence[Message], salt: str
) -> Recording:
    recording = Recording(chat[-1]["content"])
    body = {**endpoint.body(chat, _ANSWER_TOKENS), "cache_salt": salt}
    await record(client, endpoint, recording, body)
    return recording


async def talks(
    endpoint: Endpoint, rounds: int, left: Callable[[], float], say: Callable[[str], None]
) -> list[dict[str, Talk]]:
    """Both ways in every round, which takes turns in being the first."""
    found: list[dict[str, Talk]] = []
    longest = 0.0
    for number in range(1, rounds + 1):
        before = left()
        if found and before < longest:
            say(f"prefix: round {number} is left out: it would end after --minutes")
            break
        ways = (WITH, WITHOUT) if number % 2 else (WITHOUT, WITH)
        found.append({way: await talk(endpoint, way, number) for way in ways})
        longest = max(longest, before - left())
        shown = {way: 1000 * median(found[-1][way].first_token_seconds) for way in ways}
        say(f"prefix, round {number}: {shown[WITH]:.1f} ms, without reuse {shown[WITHOUT]:.1f} ms")
    return found


def prefix_figures(found: Sequence[Mapping[str, Talk]]) -> dict[str, float]:
    """Medians: of the requests of a round, then of the rounds."""
    both = [
        (median(one[WITHOUT].first_token_seconds), median(one[WITH].first_token_seconds))
        for one in found
    ]
    same = [
        a == b
        for one in found
        for a, b in zip(one[WITH].answers, one[WITHOUT].answers, strict=True)
    ]
    return {
        "ratio_prefix_reuse_ttft": _short(median(slow / fast for slow, fast in both)),
        "first_token_milliseconds_with_prefix_reuse": _short(1000 * median(b for _, b in both)),
        "first_token_milliseconds_without_prefix_reuse": _short(1000 * median(a for a, _ in both)),
        "answers_equal_with_and_without_prefix_reuse_percent": _short(100 * sum(same) / len(same)),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
