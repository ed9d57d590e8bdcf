"""Kills the operator before and after every write of a ModelServer's life, and compares the ends.

    reference    create ── change ── delete     without a kill: the writes and end of each phase
    life 1       create ── change ── delete     killed before one write of each, started again
    life 2       create ── change ── delete     killed after that write of each, started again
    life 3       ...                            before another write, and so on

Each phase must end as it did in the reference life: same children, same spec and status but for
uids and times. A lane is a namespace with an operator of its own; lanes work side by side. What
happens in a life is its story.
"""

import json
import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, zip_longest
from pathlib import Path
from typing import NamedTuple

from devcluster.api import Cluster
from support.api_request import ApiRequest
from support.fault_proxy import FaultProxy
from support.faults import KillPoint, Side, is_counted
from support.installation import Installation
from support.kube import Kube, Manifest
from support.operator_process import OperatorProcess
from support.servers import Servers, unpinned
from support.snapshot import difference
from support.waiting import wait_until

QUIET_SECONDS = 2.0
TRIES = 3  # how often status is written varies a little, so that a life can lack its point
SIDES: tuple[Side, ...] = ("before", "after")

type Life = Mapping[str, Point]

_POD = re.compile(r"^NAME-([0-9a-f]{8}|router)-[0-9a-z]+-[0-9a-z]{5}$")
_JOB = re.compile(r"^NAME-resolve-[0-9a-f]{8}$")

# With a Job that resolves, two replicas (a budget) and then one, a new revision and no history,
# every kind of child is created, changed and removed.
FIRST = unpinned(replicas=2)
SECOND = {"replicas": 1, "runtime": {"maxModelLength": 64}, "model": {"revision": "next"}}
SETTINGS = {"HISTORY_LIMIT": "0", "SETTLE_SECONDS": "1"}


def _create(servers: Servers, name: str) -> None:
    servers.create(name, FIRST)


def _change(servers: Servers, name: str) -> None:
    servers.patch(name, SECOND)


def _delete(servers: Servers, name: str) -> None:
    servers.delete(name)


PHASES: Mapping[str, Callable[[Servers, str], None]] = {
    "create": _create,
    "change": _change,
    "delete": _delete,
}


class Point(NamedTuple):
    """Where to kill: before or after the `occurrence`-th time that a phase makes this write."""

    phase: str
    write: str
    occurrence: int
    side: Side

    def __str__(self) -> str:
        return f"{self.phase}: killed {self.side} {self.write} ({self.occurrence})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A phase without a kill: what was written, and how it ended."""

    writes: tuple[str, ...]
    end: Manifest

    def points(self, phase: str) -> list[Point]:
        """Before and after each write; the same write twice is two."""
        seen = Counter[str]()
        points = []
        for write in self.writes:
            seen[write] += 1
            points += [Point(phase, write, seen[write], side) for side in SIDES]
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A point in one life. Not `reached`: the write did not come. `problem`: how it ended."""

    point: Point
    reached: bool
    problem: str

    def __str__(self) -> str:
        return f"{self.point}: {self.problem or ('ended well' if self.reached else 'not reached')}"


def signature(request: ApiRequest, name: str) -> str:
    """A write as it is in every life: without namespace, name of the server, and random parts."""
    target = _POD.sub(r"NAME-\1-POD", request.name.replace(name, "NAME"))
    return f"{request.verb} {request.target} {_JOB.sub('NAME-resolve', target)}".strip()


def _whole(end: Manifest) -> Manifest:
    return end


def _nothing_wrong(_lane: "Lane", _name: str) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens in every life.

    `comparable` leaves out of an end what follows from the pace; `problem` says in a sentence what
    else was wrong with a life that ended well.
    """

    phases: Mapping[str, Callable[[Servers, str], None]]
    settings: Mapping[str, str]
    comparable: Callable[[Manifest], Manifest] = _whole
    problem: Callable[["Lane", str], str] = _nothing_wrong
    ends_in_seconds: float = 90


LIFE = Story(phases=PHASES, settings=SETTINGS)


@dataclass(slots=True)
class Lane:
    """A namespace and an operator that watches only this namespace."""

    servers: Servers
    operator: OperatorProcess
    story: Story = LIFE
    names: Iterator[int] = field(default_factory=count)

    @property
    def proxy(self) -> FaultProxy:
        return self.operator.proxy

    def new_name(self) -> str:
        return f"life{next(self.names)}x"  # no word of a manifest contains it

    def reference(self) -> dict[str, Reference]:
        name = self.new_name()
        return {phase: self._undisturbed(phase, name) for phase in self.story.phases}

    def _undisturbed(self, phase: str, name: str) -> Reference:
        seen = len(self.proxy.seen)
        self.story.phases[phase](self.servers, name)
        self._wait_for_rest(phase, name)
        writes = tuple(signature(write.request, name) for write in self.proxy.writes(seen))
        return Reference(writes=writes, end=self._snapshot(name))

    def _snapshot(self, name: str) -> Manifest:
        """Network policies name the operator's namespace, which is another one in every lane."""
        text = json.dumps(self.servers.snapshot(name))
        end = json.loads(text.replace(self.operator.installation.namespace, "OPERATOR"))
        return self.story.comparable(end)

    def _wait_for_rest(self, phase: str, name: str) -> None:
        """The phase has reached its end, and nothing was written for a while."""
        if phase == "delete":
            self.servers.wait_gone(name)
        else:
            self.servers.wait_settled(name, timeout=self.story.ends_in_seconds)
        last = -1

        def is_quiet() -> bool:
            nonlocal last
            before, last = last, len(self.proxy.writes())
            return before == last

        wait_until(is_quiet, timeout=60, what="no more writes", interval=QUIET_SECONDS)

    def live(self, points: Life, reference: Mapping[str, Reference]) -> Iterator[Case]:
        """One life, with a kill in every phase that has a point."""
        name = self.new_name()
        for phase, known in reference.items():
            point = points.get(phase)
            kill = self._aim(point, name) if point else None
            self.story.phases[phase](self.servers, name)
            problem = self._end(name, kill, known)
            self.proxy.spare()
            if point and kill:
                yield Case(point=point, reached=kill.done.is_set(), problem=problem)
            if problem:
                self.servers.delete(name)
                self._restart_if_killed()
                return

    def _aim(self, point: Point, name: str) -> KillPoint:
        def is_meant(request: ApiRequest) -> bool:
            return is_counted(request) and signature(request, name) == point.write

        return self.proxy.kill_at(point.occurrence, point.side, self.operator, is_meant)

    def _end(self, name: str, kill: KillPoint | None, known: Reference) -> str:
        """What is wrong with the end of a phase; empty if nothing is."""

        def is_over() -> bool:
            self._restart_if_killed()
            return self._is_past(kill) and not self._differences(name, known)

        try:
            wait_until(is_over, timeout=self.story.ends_in_seconds, what="the end", interval=0.1)
        except AssertionError:
            found = self._differences(name, known)
            return "; ".join(found)[:2000] or "the end came, but was not recognised"
        return self.story.problem(self, name)

    def _differences(self, name: str, known: Reference) -> list[str]:
        return difference(known.end, self._snapshot(name))

    def _is_past(self, kill: KillPoint | None) -> bool:
        """The kill has happened, or will not: the end can come before the last write, an Event."""
        if kill is None or kill.done.is_set():
            return True
        newest = max((write.at for write in self.proxy.writes()[-1:]), default=0.0)
        return self.proxy.now() - newest > QUIET_SECONDS

    def _restart_if_killed(self) -> None:
        if not self.operator.is_running:
            self.operator.start()


@contextmanager
def open_lane(
    cluster: Cluster,
    kube: Kube,
    manifests: list[Manifest],
    folder: Path,
    namespace: str,
    story: Story = LIFE,
) -> Iterator[Lane]:
    home = f"{namespace}-operator"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    installation = Installation.make(kube, manifests, home)
    with FaultProxy(cluster.url, ca_file=cluster.ca_file) as proxy:
        settings = {**story.settings, "NAMESPACES": namespace}
        operator = OperatorProcess(
            installation, proxy, folder, identity=namespace, settings=settings
        )
        try:
            operator.start()
            yield Lane(Servers(kube, namespace), operator, story)
        finally:
            if operator.is_running:
                operator.kill()
            kube.delete(f"/api/v1/namespaces/{namespace}")
            installation.remove()


@dataclass(slots=True, kw_only=True)
class Sweep:
    """All cases so far, and the reference that they were held against."""

    reference: dict[str, Reference]
    cases: list[Case] = field(default_factory=list)

    @property
    def points(self) -> dict[str, list[Point]]:
        return {phase: known.points(phase) for phase, known in self.reference.items()}

    @property
    def tried(self) -> list[Case]:
        return [case for case in self.cases if case.reached]

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problem]

    def missed(self, points: Iterable[Point]) -> list[Point]:
        """Those at which nothing was killed: the write did not come in that life."""
        return sorted(set(points) - {case.point for case in self.tried})


def lives_through(points: Iterable[Point]) -> list[Life]:
    """As few lives as there are points in the phase that has most."""
    by_phase: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_phase[point.phase].append(point)
    return [
        {point.phase: point for point in life if point is not None}
        for life in zip_longest(*by_phase.values())
    ]


def sweep(
    lanes: list[Lane], *, stride: int = 1, tell: Callable[[Case], None] = lambda _: None
) -> Sweep:
    """Kills at every point of the reference, or at every `stride`-th one."""
    result = Sweep(reference=lanes[0].reference())
    points = [point for known in result.points.values() for point in known[::stride]]
    missed = points
    for _ in range(TRIES):
        _live_all(lanes, lives_through(missed), result, tell)
        missed = result.missed(points)
        if not missed:
            break
    return result


def _live_all(
    lanes: list[Lane], lives: list[Life], result: Sweep, tell: Callable[[Case], None]
) -> None:
    waiting, lock = deque(lives), threading.Lock()

    def next_life() -> Life | None:
        with lock:
            return waiting.popleft() if waiting else None

    def work(lane: Lane) -> None:
        while (life := next_life()) is not None:
            for case in lane.live(life, result.reference):
                with lock:
                    result.cases.append(case)
                    tell(case)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(work, lane) for lane in lanes]:
            done.result()


@contextmanager
def open_lanes(
    cluster: Cluster,
    kube: Kube,
    manifests: list[Manifest],
    folder: Path,
    namespaces: list[str],
    story: Story = LIFE,
) -> Iterator[list[Lane]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(open_lane(cluster, kube, manifests, folder, namespace, story))
            for namespace in namespaces
        ]
