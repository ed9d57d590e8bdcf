"""What the operator asks of the API: reads, server-side apply, guarded deletes, status, events."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from modelserver_operator.cluster.transport import Request, Transport
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.kinds import MODEL_SERVER, POD, Kind

FIELD_MANAGER = "modelserver-operator"
STATUS_FIELD_MANAGER = "modelserver-operator-status"

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

EVENT = Kind(api_version="events.k8s.io/v1", kind="Event", plural="events")
LEASE = Kind(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")

# A server-side apply with a resourceVersion that no object can have creates an absent object and
# is refused with 409 for one that exists, whoever it belongs to.
MUST_NOT_EXIST = "1"

LIST_PAGE = 500  # as kubectl and client-go ask

# Bookmarks come about once a minute; a longer silence means that the connection is dead.
WATCH_SILENCE_SECONDS = 75.0


@dataclass(frozen=True, slots=True)
class ObjectName:
    """One object of a kind known from context."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    items: list[Manifest]
    version: str
    next_page: str


class ApiClient:
    """Typed calls on a Transport; holds no state."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, kind: Kind, where: ObjectName) -> Manifest:
        return await self._send(Request(verb="get", kind=kind.kind, path=object_path(kind, where)))

    async def list_page(
        self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "", after: str = ""
    ) -> Page:
        """One page of a consistent list; an empty namespace means all of them."""
        params = {"limit": str(LIST_PAGE)}
        params |= {"labelSelector": labels} if labels else {}
        params |= {"fieldSelector": fields} if fields else {}
        params |= {"continue": after} if after else {}
        path = collection_path(kind, namespace)
        found = await self._send(Request(verb="list", kind=kind.kind, path=path, params=params))
        return Page(
            items=found.get("items") or [],
            version=found["metadata"]["resourceVersion"],
            next_page=found["metadata"].get("continue") or "",
        )

    def watch(
        self, kind: Kind, namespace: str, *, labels: str, since: str, seconds: int
    ) -> AsyncGenerator[bytes]:
        """Lines of watch events with bookmarks; ends after `seconds`."""
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": since,
            "timeoutSeconds": str(seconds),
        }
        params |= {"labelSelector": labels} if labels else {}
        path = collection_path(kind, namespace)
        request = Request(verb="watch", kind=kind.kind, path=path, params=params)
        return self._transport.lines(request, silence_seconds=WATCH_SILENCE_SECONDS)

    async def apply(
        self, kind: Kind, manifest: Manifest, *, version: str, manager: str = FIELD_MANAGER
    ) -> Manifest:
        """Server-side apply against exactly `version` of the object, or MUST_NOT_EXIST."""
        return await self._send(
            Request(
                verb="patch",
                kind=kind.kind,
                path=object_path(kind, name_of(manifest)),
                params={"fieldManager": manager, "force": "true"},
                body=_at(manifest, version),
                content_type=APPLY,
            )
        )

    async def replace(self, kind: Kind, manifest: Manifest, *, version: str) -> Manifest:
        """A PUT: what the manifest does not name is gone afterwards, whoever set it."""
        return await self._send(
            Request(
                verb="update",
                kind=kind.kind,
                path=object_path(kind, name_of(manifest)),
                params={"fieldManager": FIELD_MANAGER},
                body=_at(manifest, version),
            )
        )

    async def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        path = collection_path(kind, namespace)
        params = {"fieldManager": FIELD_MANAGER}
        return await self._send(
            Request(verb="create", kind=kind.kind, path=path, params=params, body=manifest)
        )

    async def delete(self, kind: Kind, where: ObjectName, *, uid: str) -> Manifest:
        """Deletes the object of this uid and, in the background, what it owns."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        path = object_path(kind, where)
        return await self._send(Request(verb="delete", kind=kind.kind, path=path, body=options))

    async def label_pod(self, where: ObjectName, *, uid: str, label: str, value: str) -> Manifest:
        return await self._mark_pod(where, uid, {"labels": {label: value}})

    async def annotate_pod(
        self, where: ObjectName, *, uid: str, annotation: str, value: str
    ) -> Manifest:
        return await self._mark_pod(where, uid, {"annotations": {annotation: value}})

    async def _mark_pod(
        self, where: ObjectName, uid: str, marks: Mapping[str, Mapping[str, str]]
    ) -> Manifest:
        """The uid is immutable, so naming it refuses a later pod of the same name."""
        return await self._send(
            Request(
                verb="patch",
                kind=POD.kind,
                path=object_path(POD, where),
                params={"fieldManager": FIELD_MANAGER},
                body={"metadata": {"uid": uid, **marks}},
                content_type=MERGE_PATCH,
            )
        )

    async def apply_status(
        self, where: ObjectName, status: Mapping[str, Any], *, uid: str, version: str
    ) -> Manifest:
        """Writes the whole status of a ModelServer that is still as it was at `version`."""
        body = {
            "apiVersion": MODEL_SERVER.api_version,
            "kind": MODEL_SERVER.kind,
            "metadata": {"name": where.name, "uid": uid, "resourceVersion": version},
            "status": status,
        }
        return await self._send(
            Request(
                verb="patch",
                kind=f"{MODEL_SERVER.kind}/status",
                path=f"{object_path(MODEL_SERVER, where)}/status",
                params={"fieldManager": STATUS_FIELD_MANAGER, "force": "true"},
                body=body,
                content_type=APPLY,
            )
        )

    async def discover(self, path: str) -> dict[str, Any]:
        return await self._send(Request(verb="get", kind="discovery", path=path))

    async def _send(self, request: Request) -> dict[str, Any]:
        return await self._transport.send(request)


def name_of(manifest: Manifest) -> ObjectName:
    metadata = manifest["metadata"]
    return ObjectName(metadata["namespace"], metadata["name"])


def _at(manifest: Manifest, version: str) -> Manifest:
    return manifest | {"metadata": manifest["metadata"] | {"resourceVersion": version}}


def collection_path(kind: Kind, namespace: str) -> str:
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{kind.path}{inside}/{kind.plural}"


def object_path(kind: Kind, where: ObjectName) -> str:
    return f"{collection_path(kind, where.namespace)}/{where.name}"
