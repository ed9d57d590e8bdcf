"""SIGTERM under load: nobody sees an error; a second signal ends at once."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from support.runtime_process import RuntimeProcess, runtime_process

pytestmark = pytest.mark.slow

STEP_SECONDS = 0.005
BODY = {"model": "fake", "prompt": "the", "max_tokens": 4}
ENVIRONMENT = {
    "MODELSERVER_SERVED_NAME": "fake",
    "MODELSERVER_LAME_DUCK_SECONDS": "1.5",
    "MODELSERVER_DRAIN_SECONDS": "30",
}


@pytest.fixture
def process() -> Iterator[RuntimeProcess]:
    with runtime_process("support.fake_runtime", str(STEP_SECONDS), **ENVIRONMENT) as process:
        yield process


class Load:
    """Clients that go on until a load balancer would have noticed that the server drains."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.gone = threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        jobs = [self.keep_connection, self.keep_connection, self.new_connections, self.watch]
        self.threads = [threading.Thread(target=job) for job in jobs]
        for thread in self.threads:
            thread.start()

    def ask(self, client: httpx.Client) -> None:
        try:
            response = client.post(f"{self.url}/v1/completions", json=BODY, timeout=20)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        kind = "closing" if response.headers.get("connection") == "close" else "open"
        self.answers[kind] += 1
        if response.status_code != 200:
            self.failures.append(response.text)

    def keep_connection(self) -> None:
        with httpx.Client() as client:
            while not self.gone.is_set():
                self.ask(client)

    def new_connections(self) -> None:
        while not self.gone.is_set():
            with httpx.Client() as client:
                self.ask(client)

    def watch(self) -> None:
        """Takes the server out half a second after it has said that it is not ready."""
        with httpx.Client() as client:
            while client.get(f"{self.url}/readyz").status_code == 200:
                self.gone.wait(0.02)
        self.gone.wait(0.5)
        self.gone.set()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)


def test_a_drain_under_load_fails_no_request(process):
    url = process.wait_until_ready()
    load = Load(url)
    long_body = {**BODY, "max_tokens": 600, "n": 2, "stream": True}
    with httpx.stream("POST", f"{url}/v1/completions", json=long_body, timeout=60) as stream:
        lines = stream.iter_lines()
        next(lines)
        process.process.send_signal(signal.SIGTERM)
        load.join()
        assert load.failures == []
        assert load.answers["closing"] > 0
        events = [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    finished = [json.loads(line[6:]) for line in events[:-1]]
    reasons = [event["choices"][0]["finish_reason"] for event in finished]
    assert reasons.count("length") == 2
    assert process.process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def test_a_second_signal_ends_at_once(process):
    process.wait_until_ready()
    process.process.send_signal(signal.SIGTERM)
    process.wait_for_line("Draining")
    began = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(10) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 1.4


def test_ctrl_c_ends_without_a_lame_duck_and_without_a_trace(process):
    process.wait_until_ready()
    began = time.monotonic()
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(10) == 0
    assert time.monotonic() - began < 1.4
    assert "Traceback" not in process.output


def test_a_signal_before_the_model_is_there_ends_the_process():
    with runtime_process("support.fake_runtime", "0", "600", **ENVIRONMENT) as process:
        assert httpx.get(f"{process.url}/startupz", timeout=20).status_code == 503
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(20) == 0


@pytest.mark.slow
def test_the_whole_program_serves_a_directory_and_ends_with_0(causal_directory):
    flags = ("serve", "--model", str(causal_directory), "--port", "0", "--lame-duck-seconds", "0")
    with runtime_process("modelserver_runtime", *flags) as process:
        assert httpx.get(f"{process.url}/livez", timeout=60).status_code == 200
        url = process.wait_until_ready()
        answer = httpx.post(f"{url}/generate", json={"inputs": "the"}, timeout=60)
        assert answer.status_code == 200
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(60) == 0
