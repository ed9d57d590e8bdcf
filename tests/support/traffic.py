"""Constant load with marks: every request is recorded, none is retried."""

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True)
class Outcome:
    began: float
    seconds: float
    status: int  # 0: no answer
    revision: str
    error: str


@dataclass
class Client:
    """One thread that asks again as soon as it has an answer."""

    name: str
    url: str
    body: dict
    keep_alive: bool
    outcomes: list[Outcome] = field(default_factory=list)

    def ask_until(self, stopped: threading.Event) -> None:
        headers = {} if self.keep_alive else {"Connection": "close"}
        # pause between requests: a constant rate of about 20/s a client is enough to see any gap
        with httpx.Client(timeout=30, headers=headers) as http:
            while not stopped.wait(0.03):
                self.outcomes.append(self._ask(http))

    def _ask(self, http: httpx.Client) -> Outcome:
        began = time.time()
        clock = time.monotonic()
        status, revision, error = 0, "", ""
        try:
            answer = http.post(self.url, json=self.body)
            status, revision = answer.status_code, answer.headers.get("x-model-revision", "")
            error = "" if answer.is_success else answer.text[:300]
        except httpx.HTTPError as failure:
            error = repr(failure)
        return Outcome(began, time.monotonic() - clock, status, revision, error)


@dataclass
class Traffic:
    clients: list[Client]

    @property
    def outcomes(self) -> list[Outcome]:
        return sorted((o for c in self.clients for o in c.outcomes), key=lambda o: o.began)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status != 200]

    def revisions(self) -> Counter:
        return Counter(outcome.revision for outcome in self.outcomes)

    def wait_for_answers(self, count: int, timeout: float = 60) -> None:
        """Until that many more requests were answered."""
        goal = len(self.outcomes) + count
        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while len(self.outcomes) < goal:
            assert time.monotonic() < deadline, f"{len(self.outcomes)} of {goal} answers"
            pause.wait(0.1)


@contextmanager
def traffic_to(url: str, body: dict):
    """Two clients, one that keeps its connection and one that makes a new one each time."""
    clients = [
        Client(name="keep-alive", url=url, body=body, keep_alive=True),
        Client(name="new-connection", url=url, body=body, keep_alive=False),
    ]
    stopped = threading.Event()
    threads = [threading.Thread(target=c.ask_until, args=(stopped,)) for c in clients]
    for thread in threads:
        thread.start()
    try:
        yield Traffic(clients)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
