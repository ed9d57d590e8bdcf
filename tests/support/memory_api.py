"""The operator's API client on objects in memory: versions, preconditions, refusals."""

import copy
import itertools
from dataclasses import dataclass, field
from typing import Any

from modelserver_operator.cluster.client import MUST_NOT_EXIST, ObjectName, name_of
from modelserver_operator.errors import Conflict, NotFound, Rejected
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.kinds import MODEL_SERVER, POD, Kind

type Key = tuple[str, ObjectName]


@dataclass
class MemoryApi:
    """`calls` is all that was asked, `fail` holds errors by the number of the write they meet."""

    objects: dict[Key, Manifest] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fail: dict[int, Exception] = field(default_factory=dict)
    refused_kinds: set[str] = field(default_factory=set)
    versions: Any = field(default_factory=lambda: itertools.count(100))

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("get ")]

    def put(self, manifest: Manifest) -> Manifest:
        """What somebody else writes."""
        metadata = manifest["metadata"] | {"resourceVersion": str(next(self.versions))}
        metadata.setdefault("uid", f"uid-{metadata['resourceVersion']}")
        stored = copy.deepcopy(manifest | {"metadata": metadata})
        self.objects[manifest["kind"], name_of(manifest)] = stored
        return copy.deepcopy(stored)

    def here(self, kind: str) -> list[Manifest]:
        return [copy.deepcopy(one) for (k, _), one in self.objects.items() if k == kind]

    # -- as ApiClient --------------------------------------------------------------------------

    async def get(self, kind: Kind, where: ObjectName) -> Manifest:
        self.calls.append(f"get {kind.kind} {where.name}")
        return copy.deepcopy(self._found(kind, where))

    async def apply(self, kind: Kind, manifest: Manifest, *, version: str) -> Manifest:
        self._write("apply", kind, manifest["metadata"]["name"])
        known = self.objects.get((kind.kind, name_of(manifest)))
        if (known is None) != (version == MUST_NOT_EXIST):
            raise Conflict(f"{kind.kind} is not as it was seen", status=409)
        if known is not None:
            self._check(known, version)
        return self.put(_merged(known or {}, manifest))

    async def replace(self, kind: Kind, manifest: Manifest, *, version: str) -> Manifest:
        self._write("replace", kind, manifest["metadata"]["name"])
        known = self._found(kind, name_of(manifest))
        self._check(known, version)
        uid = {"uid": known["metadata"]["uid"]}
        return self.put(manifest | {"metadata": manifest["metadata"] | uid})

    async def create(self, kind: Kind, _namespace: str, manifest: Manifest) -> Manifest:
        self._write("create", kind, manifest.get("reason", manifest["metadata"]["name"]))
        return self.put(manifest)

    async def delete(self, kind: Kind, where: ObjectName, *, uid: str) -> Manifest:
        self._write("delete", kind, where.name)
        if self._found(kind, where)["metadata"]["uid"] != uid:
            raise Conflict("another uid", status=409)
        del self.objects[kind.kind, where]
        return {"kind": "Status", "status": "Success"}

    async def label_pod(self, where: ObjectName, *, uid: str, label: str, value: str) -> Manifest:
        self._write("label", POD, where.name)
        return self._mark_pod(where, uid, {"labels": {label: value}})

    async def annotate_pod(
        self, where: ObjectName, *, uid: str, annotation: str, value: str
    ) -> Manifest:
        self._write("annotate", POD, where.name)
        return self._mark_pod(where, uid, {"annotations": {annotation: value}})

    def _mark_pod(self, where: ObjectName, uid: str, marks: Manifest) -> Manifest:
        pod = self._found(POD, where)
        if pod["metadata"]["uid"] != uid:
            raise Rejected("metadata.uid: field is immutable", status=422)
        return self.put(_merged(pod, {"metadata": marks}))

    async def apply_status(
        self, where: ObjectName, status: Manifest, *, uid: str, version: str
    ) -> Manifest:
        self._write("status", MODEL_SERVER, where.name)
        server = self._found(MODEL_SERVER, where)
        self._check(server, version)
        if server["metadata"]["uid"] != uid:
            raise Conflict("another uid", status=409)
        return self.put(server | {"status": status})

    # ------------------------------------------------------------------------------------------

    def _write(self, verb: str, kind: Kind, name: str) -> None:
        self.calls.append(f"{verb} {kind.kind} {name}")
        if failure := self.fail.pop(len(self.writes), None):
            raise failure
        if kind.kind in self.refused_kinds:
            raise Rejected(f"{kind.kind}: exceeded quota", status=403)

    def _found(self, kind: Kind, where: ObjectName) -> Manifest:
        if (kind.kind, where) not in self.objects:
            raise NotFound(f"no {kind.kind} {where.name}", status=404)
        return self.objects[kind.kind, where]

    def _check(self, known: Manifest, version: str) -> None:
        if known["metadata"]["resourceVersion"] != version:
            raise Conflict("the object has been modified", status=409)


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return copy.deepcopy(new)
    return {key: _merged(old.get(key), new[key]) if key in new else old[key] for key in old | new}
