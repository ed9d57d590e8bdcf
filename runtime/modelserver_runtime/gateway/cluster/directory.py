"""The models of the cluster as they are at one moment; replaced as a whole, never changed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from modelserver_runtime.gateway.cluster.report import ServerReport


class ServerKey(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Address(NamedTuple):
    """Of a pod, or of the router in front of several."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBounds:
    """How many requests, how many bytes of them, and how long: as a ModelServer has by default."""

    max_requests: int = 1000
    max_bytes: int = 64 << 20
    max_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A ModelServer. `names` are what its pods answer to; the first one is the served name.

    `has_keys`: its pods ask for an API key.
    `ready` receive requests, `starting` exist and do not yet. `phase` is that of its sleep, as the
    operator wrote it, or empty; `problem` is why waiting for it is in vain, or empty. `report` is
    for people: no request is decided by it.
    """

    key: ServerKey
    names: tuple[str, ...]
    created: str = ""  # ISO 8601, in UTC
    task: str = ""
    revision: str = ""
    ready: tuple[Address, ...] = ()
    starting: tuple[Address, ...] = ()
    holder_port: int | None = None
    phase: str = ""
    fetched_percent: int | None = None
    artifact_phase: str = ""
    cold_start_seconds: float | None = None
    timeout_seconds: float = 120.0
    problem: str = ""
    has_keys: bool = False
    hold: HoldBounds = field(default_factory=HoldBounds)
    report: ServerReport = field(default_factory=ServerReport)

    @property
    def served_name(self) -> str:
        return self.names[0]

    @property
    def allowed_names(self) -> tuple[str, ...]:
        """By which a key may allow it."""
        return (*self.names, str(self.key))

    @property
    def may_sleep(self) -> bool:
        """Only such a server has a port of the gateway, and may be woken by it."""
        return self.holder_port is not None

    @property
    def deployment(self) -> str:
        """Of the serving revision."""
        return f"{self.key.name}-{self.revision}"

    @property
    def state(self) -> str:
        """In one word, for X-Model-State and /models."""
        if self.ready:
            return "ready"
        if self.problem:
            return "failed"
        if not self.starting and self.phase in {"Cold", "Waking"}:
            return "cold" if self.phase == "Cold" else "scheduling"
        stage = self.artifact_phase.lower()
        if stage in {"resolving", "fetching", "loading"}:
            return stage
        return "loading" if self.starting else "scheduling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """`by_name` has `namespace/name` of every server, and the names that servers give themselves.

    Of two servers with the same name the older one has it, so that nobody can take another's
    requests by a new object. `namespace/name` always means that server.
    """

    servers: Mapping[ServerKey, ServedModel] = field(default_factory=dict)
    by_name: Mapping[str, ServerKey] = field(default_factory=dict)
    by_port: Mapping[int, ServerKey] = field(default_factory=dict)

    @classmethod
    def of(cls, servers: Iterable[ServedModel]) -> Self:
        by_age = sorted(servers, key=lambda one: (one.created, one.key))
        by_name: dict[str, ServerKey] = {str(one.key): one.key for one in by_age}
        by_port: dict[int, ServerKey] = {}
        for one in by_age:
            for name in one.names:
                by_name.setdefault(name, one.key)
            if one.holder_port is not None:
                by_port.setdefault(one.holder_port, one.key)
        return cls(servers={one.key: one for one in by_age}, by_name=by_name, by_port=by_port)

    def find(self, name: str) -> ServedModel | None:
        key = self.by_name.get(name)
        return None if key is None else self.servers[key]

    def name_for_pods(self, name: str) -> str:
        """What its pods call the model that a client named so: they do not know namespaces."""
        model = self.find(name)
        return name if model is None or name in model.names else model.served_name

    def listed(self) -> Iterator[tuple[str, ServedModel]]:
        """Each server once, under the name by which a client reaches it."""
        for key, model in sorted(self.servers.items()):
            is_own = self.by_name.get(model.served_name) == key
            yield (model.served_name if is_own else str(key)), model
