"""Kills the operator before and after every write of a ModelServer's life, and compares the ends.

    reference    create ── change ── delete     without a kill: the writes and end of each phase
    life 1       create ── change ── delete     killed before write 1 of each phase, started again
    life 2       create ── change ── delete     killed after write 1 of each phase, started again
    life 3       ...                            before write 2, and so on

Each phase must end as it did in the reference life: same children, same spec and status but for
uids and times. A lane is a namespace with an operator of its own; lanes work side by side.
"""

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from devcluster.api import Cluster
from support.fault_proxy import FaultProxy
from support.faults import KillPoint, Side
from support.installation import Installation
from support.kube import Kube, Manifest
from support.operator_process import OperatorProcess
from support.servers import Servers, unpinned
from support.snapshot import difference
from support.waiting import wait_until

ENDS_IN_SECONDS = 90
QUIET_SECONDS = 2.0
SIDES: tuple[Side, ...] = ("before", "after")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A phase without a kill: what was written, and how it ended."""

    writes: tuple[str, ...]
    end: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kill. `hit` is empty when the phase had no such write, `problem` when it ended well."""

    phase: str
    number: int
    side: Side
    hit: str
    problem: str

    def __str__(self) -> str:
        return f"{self.phase}: killed {self.side} write {self.number} ({self.hit}): {self.problem}"


@dataclass(slots=True)
class Lane:
    """A namespace and an operator that watches only this namespace."""

    servers: Servers
    operator: OperatorProcess
    names: Iterator[int] = field(default_factory=count)

    @property
    def proxy(self) -> FaultProxy:
        return self.operator.proxy

    def new_name(self) -> str:
        return f"life{next(self.names)}x"  # no word of a manifest contains it

    def reference(self) -> dict[str, Reference]:
        name = self.new_name()
        return {phase: self._undisturbed(phase, name) for phase in PHASES}

    def _undisturbed(self, phase: str, name: str) -> Reference:
        seen = len(self.proxy.seen)
        PHASES[phase](self.servers, name)
        self._wait_for_rest(phase, name)
        writes = tuple(f"{w.request}".replace(name, "NAME") for w in self.proxy.writes(seen))
        return Reference(writes=writes, end=self._snapshot(name))

    def _snapshot(self, name: str) -> Manifest:
        """Network policies name the operator's namespace, which is another one in every lane."""
        text = json.dumps(self.servers.snapshot(name))
        return json.loads(text.replace(self.operator.installation.namespace, "OPERATOR"))

    def _wait_for_rest(self, phase: str, name: str) -> None:
        """The phase has reached its end, and nothing was written for a while."""
        if phase == "delete":
            self.servers.wait_gone(name)
        else:
            self.servers.wait_settled(name)
        last = -1

        def is_quiet() -> bool:
            nonlocal last
            before, last = last, len(self.proxy.writes())
            return before == last

        wait_until(is_quiet, timeout=60, what="no more writes", interval=QUIET_SECONDS)

    def live(self, number: int, side: Side, reference: Mapping[str, Reference]) -> Iterator[Case]:
        """One life, with a kill in every phase that has such a write."""
        name = self.new_name()
        for phase, known in reference.items():
            point = self.proxy.kill_at(number, side, self.operator)
            PHASES[phase](self.servers, name)
            problem = self._end(name, point, known)
            self.proxy.spare()
            hit = str(point.hit).replace(name, "NAME") if point.hit else ""
            yield Case(phase=phase, number=number, side=side, hit=hit, problem=problem)
            if problem:
                self.servers.delete(name)
                self._restart_if_killed()
                return

    def _end(self, name: str, point: KillPoint, known: Reference) -> str:
        """What is wrong with the end of a phase; empty if nothing is."""

        def is_over() -> bool:
            self._restart_if_killed()
            return self._is_past(point, known) and not self._differences(name, known)

        try:
            wait_until(is_over, timeout=ENDS_IN_SECONDS, what="the end", interval=0.1)
        except AssertionError:
            found = self._differences(name, known)
            return "; ".join(found)[:2000] or "the end came, but was not recognised"
        return ""

    def _differences(self, name: str, known: Reference) -> list[str]:
        return difference(known.end, self._snapshot(name))

    def _is_past(self, point: KillPoint, known: Reference) -> bool:
        """The kill has happened, or there is no such write.

        The end can be reached before the last writes (an Event): only silence says that none comes.
        """
        if point.done.is_set() or point.number > len(known.writes):
            return True
        newest = max((write.at for write in self.proxy.writes()[-1:]), default=0.0)
        return self.proxy.now() - newest > QUIET_SECONDS

    def _restart_if_killed(self) -> None:
        if not self.operator.is_running:
            self.operator.start()


@contextmanager
def open_lane(
    cluster: Cluster, kube: Kube, manifests: list[Manifest], folder: Path, number: int
) -> Iterator[Lane]:
    namespace, home = f"lane-{number}", f"lane-{number}-operator"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    installation = Installation.make(kube, manifests, home)
    with FaultProxy(cluster.url, ca_file=cluster.ca_file) as proxy:
        settings = SETTINGS | {"NAMESPACES": namespace}
        operator = OperatorProcess(
            installation, proxy, folder, identity=f"lane-{number}", settings=settings
        )
        try:
            operator.start()
            yield Lane(Servers(kube, namespace), operator)
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
    def tried(self) -> list[Case]:
        return [case for case in self.cases if case.hit]

    @property
    def failed(self) -> list[Case]:
        return [case for case in self.cases if case.problem]

    @property
    def longest(self) -> int:
        """The number of writes in the phase that has most."""
        return max(len(phase.writes) for phase in self.reference.values())


def sweep(
    lanes: list[Lane],
    numbers: Callable[[int], Iterable[int]],
    *,
    tell: Callable[[Case], None] = lambda _: None,
) -> Sweep:
    """`numbers` chooses which writes to kill at, given how many there are at most."""
    result = Sweep(reference=lanes[0].reference())
    lives: queue.SimpleQueue[tuple[int, Side]] = queue.SimpleQueue()
    for number in numbers(result.longest):
        for side in SIDES:
            lives.put((number, side))
    lock = threading.Lock()

    def work(lane: Lane) -> None:
        while not lives.empty():
            try:
                number, side = lives.get_nowait()
            except queue.Empty:
                return
            for case in lane.live(number, side, result.reference):
                with lock:
                    result.cases.append(case)
                    tell(case)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(work, lane) for lane in lanes]:
            done.result()
    return result


@contextmanager
def open_lanes(
    cluster: Cluster, kube: Kube, manifests: list[Manifest], folder: Path, lanes: int
) -> Iterator[list[Lane]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(open_lane(cluster, kube, manifests, folder, number))
            for number in range(lanes)
        ]
