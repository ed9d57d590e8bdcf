"""What the API server last said about the objects of one kind, found by their ModelServer."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from modelserver_operator.cluster.client import ObjectName, name_of
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.kinds import MODEL_SERVER

SERVER_LABEL = "modelserver.dev/server"

type Owner = Callable[[Manifest], ObjectName | None]
type Trim = Callable[[Manifest], Manifest]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as JSON bytes, about a tenth of what it takes as Python objects."""

    uid: str
    version: int
    server: ObjectName
    body: bytes


class Store:
    """Takes news in any order and keeps the newest.

    Resource versions of one kind grow with time and can be compared, so an answer to our own write
    may be put here at once, and the watch events that are still on their way change nothing.
    """

    def __init__(self, *, owner: Owner, trim: Trim) -> None:
        self._owner = owner
        self._trim = trim
        self._objects: dict[ObjectName, Stored] = {}
        self._by_server: dict[ObjectName, set[ObjectName]] = defaultdict(set)
        self._deleted: set[str] = set()
        self._expected: set[ObjectName] = set()

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[ObjectName]:
        return iter(tuple(self._objects))

    def get(self, where: ObjectName) -> Manifest | None:
        stored = self._objects.get(where)
        return orjson.loads(stored.body) if stored else None

    def version(self, where: ObjectName) -> int:
        """0 if it is not known."""
        stored = self._objects.get(where)
        return stored.version if stored else 0

    def of_server(self, server: ObjectName) -> list[Manifest]:
        return [
            orjson.loads(self._objects[where].body)
            for where in sorted(self._by_server.get(server, ()), key=lambda one: one.name)
        ]

    def put(self, manifest: Manifest) -> set[ObjectName]:
        """The ModelServers for which this is news: none if we knew as much, or newer."""
        metadata = manifest["metadata"]
        where, version = name_of(manifest), int(metadata["resourceVersion"])
        known = self._objects.get(where)
        if metadata["uid"] in self._deleted or (known and known.version >= version):
            return set()
        server = self._owner(manifest)
        if server is None:
            return self._forget(where)
        affected = self._forget(where) | {server}
        body = orjson.dumps(self._trim(manifest))
        self._objects[where] = Stored(metadata["uid"], version, server, body)
        self._by_server[server].add(where)
        return set() if where in self._expected else affected

    @contextmanager
    def expecting(self, where: ObjectName) -> Iterator[None]:
        """While we write the object, news of it may be our own: kept, but told to nobody.

        Whoever writes compares versions afterwards: a greater one than his was somebody else's.
        """
        self._expected.add(where)
        try:
            yield
        finally:
            self._expected.discard(where)

    def remove(self, manifest: Manifest) -> set[ObjectName]:
        """The object of this uid is gone, as a watch says."""
        self._deleted.discard(manifest["metadata"]["uid"])
        return self._remove(name_of(manifest), manifest["metadata"]["uid"])

    def forget(self, where: ObjectName) -> set[ObjectName]:
        """The object is gone, as a live read says."""
        return self._forget(where)

    def deleted_by_us(self, where: ObjectName, uid: str) -> None:
        """Events from before the deletion may still come and must not bring it back."""
        self._deleted.add(uid)
        self._remove(where, uid)

    def retain(self, listed: set[str], version: int, namespace: str) -> set[ObjectName]:
        """After a list at `version`: forgets what was not in it, by uid."""
        gone = [
            (where, stored.uid)
            for where, stored in self._objects.items()
            if stored.uid not in listed
            and stored.version <= version
            and namespace in {"", where.namespace}
        ]
        self._deleted &= listed
        return {server for where, uid in gone for server in self._remove(where, uid)}

    def _remove(self, where: ObjectName, uid: str) -> set[ObjectName]:
        known = self._objects.get(where)
        return self._forget(where) if known and known.uid == uid else set()

    def _forget(self, where: ObjectName) -> set[ObjectName]:
        known = self._objects.pop(where, None)
        if known is None:
            return set()
        names = self._by_server[known.server]
        names.discard(where)
        if not names:
            del self._by_server[known.server]
        return {known.server}


def server_store() -> Store:
    return Store(owner=name_of, trim=_without_managed_fields)


def child_store() -> Store:
    return Store(owner=server_of, trim=lambda manifest: manifest)


def pod_store() -> Store:
    return Store(owner=server_of, trim=trimmed_pod)


def server_of(manifest: Manifest) -> ObjectName | None:
    """The ModelServer that a child or pod belongs to: by its controller, else by its label."""
    metadata = manifest["metadata"]
    controller = controller_of(manifest)
    if controller and controller["kind"] == MODEL_SERVER.kind:
        return ObjectName(metadata["namespace"], controller["name"])
    name = (metadata.get("labels") or {}).get(SERVER_LABEL)
    return ObjectName(metadata["namespace"], name) if name else None


def controller_of(manifest: Manifest) -> Manifest | None:
    for reference in manifest["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def _without_managed_fields(manifest: Manifest) -> Manifest:
    metadata = {k: v for k, v in manifest["metadata"].items() if k != "managedFields"}
    return manifest | {"metadata": metadata}


def trimmed_pod(manifest: Manifest) -> Manifest:
    """A pod without what nobody reads: who wrote it, its volumes, its containers' environment."""
    spec = manifest.get("spec") or {}
    kept = {
        "nodeName": spec.get("nodeName", ""),
        "initContainers": [_container(one) for one in spec.get("initContainers") or ()],
        "containers": [_container(one) for one in spec.get("containers") or ()],
    }
    return _without_managed_fields(manifest) | {"spec": kept}


def _container(container: Manifest) -> Manifest:
    return {key: container[key] for key in ("name", "image", "resources") if key in container}
