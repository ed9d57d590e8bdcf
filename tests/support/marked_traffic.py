"""A constant rate of requests, each with a mark of its own that its answer must bear."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from support.waiting import wait_until

RATE = 25  # a second
CATCHING_UP_SECONDS = 1.0  # of a machine that was busy; more would be a flood
PATIENCE = 120  # seconds of one request; those that are held wait for new pods
IDLE_SECONDS = 2  # less than any server keeps a connection that nobody uses
REFUSALS = {429, 503}  # that say when it may be tried again


@dataclass(frozen=True)
class Answer:
    """One request and what came of it; times are seconds since the epoch."""

    mark: str
    began: float
    seconds: float
    status: int  # 0: none came
    revision: str = ""  # that says to have made it
    router_says: str = ""  # the revision that the router asked; empty without a router
    times_seen: str = ""
    marked: str = ""  # the mark of the answer
    retry_after: str = ""
    text: str = ""

    @property
    def is_told(self) -> bool:
        """Whether the client knows what became of it: an answer, or when to try again."""
        return self.status == 200 or (self.status in REFUSALS and bool(self.retry_after))


@dataclass
class MarkedTraffic:
    """Half of the requests keep their connections, half make new ones.

    `most_at_once` requests are under way, so that a machine that is slow is asked less often.
    `rate` may be changed while it runs.
    """

    url: str
    model: str
    most_at_once: int = 50
    host: str = ""  # that is asked for, if it is not that of the url
    rate: float = RATE  # a second
    headers: Mapping[str, str] = field(default_factory=dict)  # of every request
    word: str = ""  # that marks begin with; the model, unless it is given
    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        keeping = httpx.Limits(keepalive_expiry=IDLE_SECONDS)
        none = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(timeout=PATIENCE, limits=keeping) as kept,
            httpx.AsyncClient(timeout=PATIENCE, limits=none) as new,
            asyncio.TaskGroup() as group,
        ):
            clock = asyncio.get_running_loop().time
            room = asyncio.Semaphore(self.most_at_once)
            due = clock()
            for number, client in zip(itertools.count(), itertools.cycle((kept, new))):
                if self._stopped.is_set():
                    break
                await room.acquire()
                asking = group.create_task(self._ask(client, self._mark(number)))
                asking.add_done_callback(lambda _: room.release())
                self.sent += 1
                due = max(due + 1 / self.rate, clock() - CATCHING_UP_SECONDS)
                await asyncio.sleep(max(0.0, due - clock()))

    async def ask_at_once(self, count: int) -> None:
        """That many, each by a connection of its own; instead of `run`."""
        unbounded = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(timeout=PATIENCE, limits=unbounded) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(count):
                group.create_task(self._ask(client, self._mark(number)))
                self.sent += 1

    def _mark(self, number: int) -> str:
        return f"{self.word or self.model}-{number}"

    async def _ask(self, client: httpx.AsyncClient, mark: str) -> None:
        began, clock = time.time(), time.monotonic()
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": mark}],
            "max_tokens": 2,
            "temperature": 0,
        }
        headers = {**self.headers, "x-request-id": mark}
        headers |= {"host": self.host} if self.host else {}
        try:
            answer = await client.post(self.url, json=body, headers=headers)
        except httpx.HTTPError as failure:
            seconds = time.monotonic() - clock
            self.answers.append(Answer(mark, began, seconds, 0, text=repr(failure)))
            return
        heard = answer.headers
        self.answers.append(
            Answer(
                mark=mark,
                began=began,
                seconds=time.monotonic() - clock,
                status=answer.status_code,
                revision=heard.get("x-model-revision", ""),
                router_says=heard.get("x-modelserver-revision", ""),
                times_seen=heard.get("x-times-seen", "1"),
                marked=heard.get("x-request-id", mark),
                retry_after=heard.get("retry-after", ""),
                text=answer.text[:300],
            )
        )

    def stop(self) -> None:
        self._stopped.set()

    # -- what is seen ------------------------------------------------------------------------------

    def failures(self, *, but_of: str = "") -> list[Answer]:
        """Requests without a good answer, but for errors that a revision itself has answered."""
        return [
            answer
            for answer in list(self.answers)
            if answer.status != 200 and not (but_of and answer.revision == but_of)
        ]

    def untold(self) -> list[Answer]:
        """Requests whose client got neither an answer nor a time to try again."""
        return [answer for answer in list(self.answers) if not answer.is_told]

    def mistaken(self) -> list[Answer]:
        """Answers to another request, or to one that a pod was sent twice."""
        return [
            answer
            for answer in list(self.answers)
            if answer.status and (answer.marked != answer.mark or answer.times_seen != "1")
        ]

    def lost(self) -> set[str]:
        """Marks without exactly one outcome; after the end of the traffic."""
        seen = Counter(answer.mark for answer in self.answers)
        expected = {self._mark(number) for number in range(self.sent)}
        return {mark for mark in expected | set(seen) if seen[mark] != 1}

    def revisions(self) -> Counter:
        return Counter(answer.revision for answer in list(self.answers))

    def through_router(self, since: float, until: float) -> Counter:
        """Answers of requests that were sent in this time and that a router has passed on."""
        return Counter(
            answer.router_says
            for answer in list(self.answers)
            if since <= answer.began < until and answer.router_says
        )

    def made_by(self, since: float, until: float) -> Counter:
        """Revisions that made the answers to what was sent in this time, whoever passed it on."""
        return Counter(
            answer.revision for answer in list(self.answers) if since <= answer.began < until
        )

    def wait_for_answers(self, count: int, *, revision: str = "", timeout: float = 90) -> None:
        """Until that many more requests were answered, by this revision if one is given."""

        def number() -> int:
            return self.revisions()[revision] if revision else len(self.answers)

        goal = number() + count
        wait_until(
            lambda: number() >= goal, timeout=timeout, what=f"{goal} answers of {revision or 'any'}"
        )


@contextmanager
def marked_traffic(url: str, model: str, most_at_once: int, **more):
    """`more` are other fields of the traffic."""
    traffic = MarkedTraffic(url=url, model=model, most_at_once=most_at_once, **more)
    thread = threading.Thread(target=asyncio.run, args=(traffic.run(),))
    thread.start()
    try:
        yield traffic
    finally:
        traffic.stop()
        thread.join()
