"""Which optional kinds the cluster has now, and whether their schemas have all that we write.

A field that a schema lacks is dropped by the API server without a word: a mirror without its
fraction would copy every request, and a route without its timeout would differ from what is wanted
for ever. So the question is put to the published schemas (OpenAPI v3), which every account may
read, and not to the definitions, which would take another right.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from modelserver_operator.cluster.client import ApiClient
from modelserver_operator.errors import Forbidden, NotFound, Unavailable
from modelserver_operator.resources.kinds import (
    DESTINATION_RULE,
    HTTP_ROUTE,
    SCALED_OBJECT,
    VIRTUAL_SERVICE,
    Kind,
)
from modelserver_operator.resources.router_choice import Capabilities

INDEX = "/openapi/v3"
# What pods use of cpu and memory: served by metrics-server, or by whoever stands in for it.
RESOURCE_METRICS = "/apis/metrics.k8s.io/v1beta1"

# Of each kind the fields that its oldest versions do not have.
WRITTEN_FIELDS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        DESTINATION_RULE: ("spec.trafficPolicy.loadBalancer.warmup",),
        VIRTUAL_SERVICE: ("spec.http.mirrors.percentage",),
        HTTP_ROUTE: ("spec.rules.timeouts", "spec.rules.filters.requestMirror.fraction"),
        SCALED_OBJECT: ("spec.fallback.behavior",),
    }
)

type Schema = Mapping[str, Any]


class Discovery:
    """Remembers each document by its address, which changes with its content."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._known: dict[str, tuple[str, Capabilities]] = {}
        self._has_resource_metrics = False

    async def look(self) -> Capabilities:
        """Raises ClusterError where nothing can be said."""
        index = (await self._client.discover(INDEX))["paths"]
        found = [await self._of_version(one, index) for one in _VERSIONS]
        return Capabilities(
            kinds=frozenset().union(*(one.kinds for one in found)),
            outdated=MappingProxyType({k: v for one in found for k, v in one.outdated.items()}),
            has_resource_metrics=await self._looks_for_resource_metrics(),
        )

    async def _looks_for_resource_metrics(self) -> bool:
        """While whoever serves them does not answer, as it was: it is there, and an HPA waits."""
        try:
            await self._client.discover(RESOURCE_METRICS)
        except NotFound:
            self._has_resource_metrics = False
        except (Unavailable, Forbidden):
            pass
        else:
            self._has_resource_metrics = True
        return self._has_resource_metrics

    async def _of_version(self, api_version: str, index: Mapping[str, Any]) -> Capabilities:
        entry = index.get(f"apis/{api_version}")
        if entry is None:
            self._known.pop(api_version, None)
            return Capabilities()
        address = str(entry["serverRelativeURL"])
        known = self._known.get(api_version)
        if known is None or known[0] != address:
            known = address, await self._read(api_version)
            self._known[api_version] = known
        return known[1]

    async def _read(self, api_version: str) -> Capabilities:
        try:
            document = await self._client.discover(f"{INDEX}/apis/{api_version}")
        except NotFound:  # it went between the two questions
            return Capabilities()
        return capabilities_of(api_version, document)


_VERSIONS = tuple(dict.fromkeys(kind.api_version for kind in WRITTEN_FIELDS))


def capabilities_of(api_version: str, document: Mapping[str, Any]) -> Capabilities:
    schemas = _schemas_by_kind(document)
    served = {
        k: schemas[k.kind]
        for k in WRITTEN_FIELDS
        if k.api_version == api_version and k.kind in schemas
    }
    lacking = {
        kind: path
        for kind, schema in served.items()
        for path in reversed(WRITTEN_FIELDS[kind])
        if not _has_field(schema, path.split("."))
    }
    return Capabilities(
        kinds=frozenset(served.keys() - lacking.keys()), outdated=MappingProxyType(lacking)
    )


def _schemas_by_kind(document: Mapping[str, Any]) -> Mapping[str, Schema]:
    schemas = document.get("components", {}).get("schemas", {}).values()
    return {
        identity["kind"]: schema
        for schema in schemas
        for identity in schema.get("x-kubernetes-group-version-kind", ())
    }


def _has_field(schema: Schema, path: list[str]) -> bool:
    """Lists are passed through: the path names only fields."""
    while "items" in schema:
        schema = schema["items"]
    if not path:
        return True
    below = schema.get("properties", {}).get(path[0])
    return below is not None and _has_field(below, path[1:])
