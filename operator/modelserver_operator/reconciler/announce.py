"""Tells users what has changed: Kubernetes Events, once per transition."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime

from modelserver_operator.cluster.client import EVENT, ApiClient
from modelserver_operator.errors import ClusterError
from modelserver_operator.plan.values import Manifest
from modelserver_operator.resources.kinds import MODEL_SERVER
from modelserver_operator.status.events import Event, event_of, events_of
from modelserver_operator.status.report import Reported

CONTROLLER = "modelserver.dev/operator"

log = logging.getLogger(__name__)


class Announcer:
    """An event that cannot be written is not worth a retry: the status says the same."""

    def __init__(
        self,
        client: ApiClient,
        identity: str,
        clock: Callable[[], datetime],
        decided: Callable[[str], None],
    ) -> None:
        self._client = client
        self._identity = identity
        self._clock = clock
        self._decided = decided

    async def announce(self, server: Manifest, old: Manifest, new: Reported) -> None:
        namespace = server["metadata"]["namespace"]
        for said in new.said:
            self._decided(said.reason)
        for event in (*events_of(old, new.status), *map(event_of, new.said)):
            try:
                await self._client.create(EVENT, namespace, self._manifest(server, event))
            except ClusterError as failure:
                log.warning("event %s was not written: %s", event.reason, failure)

    def _manifest(self, server: Manifest, event: Event) -> Manifest:
        metadata = server["metadata"]
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {
                "namespace": metadata["namespace"],
                "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
            },
            "eventTime": self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": event.type.value,
            "reason": event.reason,
            "action": event.action,
            "note": event.message,
            "reportingController": CONTROLLER,
            "reportingInstance": self._identity,
            "regarding": {
                "apiVersion": MODEL_SERVER.api_version,
                "kind": MODEL_SERVER.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
