"""How far a start is, and who is told; how long a hub is waited for."""

import json
import threading
import urllib.error
import urllib.request

import pytest

from modelserver_runtime.artifacts import Phase, Progress, line_of, print_progress, serve_progress
from modelserver_runtime.artifacts.patience import Abandoned, Pace, Patience, TransientFailure
from modelserver_runtime.errors import ArtifactUnreachable, InvalidConfiguration
from support.waiting import wait_until

MEGABYTE = 1_000_000


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class TestProgress:
    def test_nothing_is_known_at_first(self):
        report = Progress().report()
        assert report.as_json() == {
            "phase": "Fetching",
            "percent": 0,
            "doneBytes": 0,
            "totalBytes": 0,
            "etaSeconds": None,
            "message": "",
        }

    def test_the_estimate_follows_the_rate(self, clock):
        progress = Progress(clock=clock)
        progress.expect(100 * MEGABYTE)
        progress.add(0)
        clock.now += 10
        progress.add(20 * MEGABYTE)
        report = progress.report()
        assert (report.percent, report.eta_seconds) == (20, 40)

    def test_the_estimate_forgets_what_was_long_ago(self, clock):
        progress = Progress(clock=clock)
        progress.expect(1000 * MEGABYTE)
        progress.add(500 * MEGABYTE)
        for _ in range(60):
            clock.now += 1
            progress.add(MEGABYTE)
        assert progress.report().eta_seconds == pytest.approx(440, abs=25)

    def test_what_was_there_already_does_not_count_as_speed(self, clock):
        progress = Progress(clock=clock)
        progress.expect(100 * MEGABYTE)
        progress.found(50 * MEGABYTE)
        progress.add(0)
        clock.now += 10
        progress.add(10 * MEGABYTE)
        report = progress.report()
        assert (report.percent, report.eta_seconds) == (60, 40)

    def test_a_standstill_has_no_estimate(self, clock):
        progress = Progress(clock=clock)
        progress.expect(100)
        clock.now += 10
        assert progress.report().eta_seconds is None

    def test_lost_bytes_do_not_take_back_what_was_reported(self):
        progress = Progress()
        progress.expect(100)
        progress.add(60)
        progress.lost(60)
        assert progress.report().percent == 60
        progress.add(50)
        assert progress.report().percent == 60
        progress.add(50)
        assert progress.report().percent == 100

    def test_a_phase_starts_from_zero(self):
        progress = Progress()
        progress.expect(100)
        progress.add(100)
        progress.enter(Phase.LOADING, message="Loading weights", total_bytes=10)
        report = progress.report()
        assert (report.phase, report.percent, report.message) == (
            Phase.LOADING,
            0,
            "Loading weights",
        )

    def test_ready_is_a_hundred_percent(self):
        progress = Progress()
        progress.enter(Phase.READY)
        assert progress.report().percent == 100

    def test_threads_lose_no_byte(self):
        progress = Progress()
        progress.expect(80_000)
        threads = [
            threading.Thread(target=lambda: [progress.add(1) for _ in range(10_000)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert progress.report().done_bytes == 80_000


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class TestServeProgress:
    def test_startup_is_503_with_the_report_until_ready(self):
        progress = Progress()
        with serve_progress(progress, host="127.0.0.1", port=0) as port:
            progress.expect(200)
            progress.add(50)
            assert get(port, "/startupz") == (503, progress.report().as_json())
            assert get(port, "/startupz")[1]["percent"] == 25
            progress.enter(Phase.READY)
            assert get(port, "/startupz")[0] == 200

    def test_alive_while_fetching(self):
        with serve_progress(Progress(), host="127.0.0.1", port=0) as port:
            assert get(port, "/livez")[0] == 200
            assert get(port, "/v1/models")[0] == 404

    def test_the_port_is_free_again_afterwards(self):
        with serve_progress(Progress(), host="127.0.0.1", port=0) as port:
            pass
        with serve_progress(Progress(), host="127.0.0.1", port=port) as again:
            assert again == port

    def test_a_taken_port_is_said(self):
        with (
            serve_progress(Progress(), host="127.0.0.1", port=0) as port,
            pytest.raises(InvalidConfiguration, match=f"Cannot listen on 127.0.0.1:{port}"),
            serve_progress(Progress(), host="127.0.0.1", port=port),
        ):
            pass


class TestLines:
    def test_a_line_says_how_far_and_how_long(self, clock):
        progress = Progress(clock=clock)
        progress.expect(2_000 * MEGABYTE)
        progress.add(0)
        clock.now += 10
        progress.add(500 * MEGABYTE)
        progress.say("Fetching 3 files of acme/chat")
        assert line_of(progress.report()) == (
            "Fetching  25 %  500.0 MB of 2.0 GB  30 s left  Fetching 3 files of acme/chat"
        )

    def test_news_are_written_and_the_end_always(self):
        lines, progress = [], Progress()
        with print_progress(progress, lines.append):
            progress.expect(100)
            progress.say("Fetching")
            wait_until(lambda: lines, timeout=5, what="a first line", interval=0.02)
            progress.add(100)
        assert lines[-1].startswith("Fetching 100 %")

    def test_silence_writes_nothing(self):
        lines = []
        with print_progress(Progress(), lines.append):
            pass
        assert not lines


class Waits(threading.Event):
    """An event that never comes; waiting for it moves the clock."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.delays = []

    def wait(self, timeout=None):
        self.delays.append(timeout)
        self.clock.now += timeout
        return False


class TestPatience:
    def patience(self, clock, budget=100.0, **options):
        self.said = []
        self.waits = Waits(clock)
        return Patience(
            budget,
            announce=self.said.append,
            stop=self.waits,
            pace=Pace(first_seconds=1, longest_seconds=8),
            clock=clock,
            **options,
        )

    def failing(self, times, **wish):
        outcomes = [TransientFailure("The hub answers 503", **wish)] * times

        def act():
            if outcomes:
                raise outcomes.pop()
            return "done"

        return act

    def test_success_waits_for_nothing(self, clock):
        assert self.patience(clock).persist(lambda: 7) == 7
        assert not self.waits.delays

    def test_delays_grow_to_the_longest(self, clock):
        assert self.patience(clock).persist(self.failing(6)) == "done"
        for delay, expected in zip(self.waits.delays, [1, 2, 4, 8, 8, 8], strict=True):
            assert 0.75 * expected <= delay <= 1.25 * expected

    def test_every_wait_is_announced(self, clock):
        self.patience(clock).persist(self.failing(1, retry_after_seconds=5))
        assert self.said == ["The hub answers 503; trying again in 5 s"]

    def test_the_budget_is_never_exceeded(self, clock):
        start = clock.now
        with pytest.raises(ArtifactUnreachable, match=r"503; gave up after \d+ attempts in \d+ s"):
            self.patience(clock).persist(self.failing(1000))
        assert 80 <= clock.now - start <= 100

    def test_a_renewed_patience_counts_from_anew(self, clock):
        patience = self.patience(clock, budget=10)
        for _ in range(5):
            patience.persist(self.failing(2))
            clock.now += 20
            patience.renew()

    def test_a_stop_ends_the_wait(self, clock):
        stop = threading.Event()
        stop.set()
        patience = Patience(100, announce=lambda _: None, stop=stop, clock=clock)
        with pytest.raises(Abandoned):
            patience.persist(self.failing(1))
