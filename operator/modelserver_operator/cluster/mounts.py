"""Asks why volumes of a pod cannot be mounted: the kubelet says it in Events and nowhere else."""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence

from modelserver_operator.cluster.client import EVENT, ApiClient
from modelserver_operator.errors import Forbidden
from modelserver_operator.plan.values import Manifest

log = logging.getLogger(__name__)

REASONS = ("FailedMount", "FailedAttachVolume")

# One volume and its cause; what else the kubelet says sums up that volumes are missing.
_SPECIFIC = re.compile(r"^(MountVolume|AttachVolume|MapVolume|WaitForAttach)")


class MountProbe:
    """Reads the Events of pods that wait for their volumes."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read(self, pods: Iterable[Manifest]) -> dict[str, str]:
        """By pod name; a pod about which nothing is said is left out."""
        asked = list(pods)
        try:
            answers = await asyncio.gather(*map(self._ask, asked))
        except Forbidden as refusal:
            # The installed role is older than the operator: less is known, all else goes on.
            log.warning("Events cannot be read; apply the operator's role again: %s", refusal)
            return {}
        pairs = zip(asked, answers, strict=True)
        return {pod["metadata"]["name"]: answer for pod, answer in pairs if answer}

    async def _ask(self, pod: Manifest) -> str:
        metadata = pod["metadata"]
        fields = f"regarding.kind=Pod,regarding.uid={metadata['uid']}"
        page = await self._client.list_page(EVENT, metadata["namespace"], fields=fields)
        return failure_in(page.items)


def failure_in(events: Sequence[Manifest]) -> str:
    """What was said last about a volume; empty if nothing was."""
    about = [one for one in events if one.get("reason") in REASONS]
    last = max(about, key=_weight, default={})
    return str(last.get("note") or "")


def _weight(event: Manifest) -> tuple[bool, str]:
    """A cause counts more than a summary; then what was seen later."""
    return bool(_SPECIFIC.match(str(event.get("note") or ""))), _last_seen(event)


def _last_seen(event: Manifest) -> str:
    """RFC 3339, which sorts as text to the second; writers of Events use different fields."""
    series = event.get("series") or {}
    candidates = (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return max(str(one)[:19] for one in candidates if one)
