"""What Events say about volumes: asked for by pod, the cause before its summaries."""

import pytest

from modelserver_operator.cluster.client import Page
from modelserver_operator.cluster.mounts import MountProbe, failure_in
from modelserver_operator.errors import Forbidden, Unavailable

CAUSE = 'MountVolume.SetUp failed for volume "api-keys" : secret "chat-keys" not found'
SUMMARY = "Unable to attach or mount volumes: unmounted volumes=[api-keys]"


def event(note, *, reason="FailedMount", made="2026-01-01T00:00:00Z", **more):
    return {"reason": reason, "note": note, "metadata": {"creationTimestamp": made}, **more}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ""),
        ([event("assigned to stage", reason="Scheduled")], ""),
        ([event(CAUSE)], CAUSE),
        ([event(CAUSE), event(SUMMARY, made="2026-01-01T00:05:00Z")], CAUSE),
        ([event(SUMMARY)], SUMMARY),
        ([event(CAUSE), event("MountVolume.X", deprecatedLastTimestamp="2026-01-02T00:00:00Z")],
         "MountVolume.X"),
        ([event("MountVolume.X", made="2026-01-01T09:00:00Z"),
          event(CAUSE, series={"lastObservedTime": "2026-01-03T00:00:00.123456Z"})], CAUSE),
        ([event("AttachVolume.Attach failed", reason="FailedAttachVolume")],
         "AttachVolume.Attach failed"),
        ([event(None)], ""),
    ],
)  # fmt: skip
def test_the_latest_cause_counts(events, expected):
    assert failure_in(events) == expected


class Events:
    """Answers lists of Events by the pod that they ask for."""

    def __init__(self, by_uid):
        self.by_uid = by_uid
        self.asked = []

    async def list_page(self, kind, namespace, *, fields):
        self.asked.append((kind.kind, namespace, fields))
        answer = self.by_uid[fields.rpartition("=")[2]]
        if isinstance(answer, Exception):
            raise answer
        return Page(items=answer, version="1", next_page="")


def pod(name):
    return {"metadata": {"name": name, "namespace": "models", "uid": f"uid-{name}"}}


async def test_each_pod_is_asked_about_by_its_uid():
    events = Events({"uid-a": [event(CAUSE)], "uid-b": []})
    assert await MountProbe(events).read([pod("a"), pod("b")]) == {"a": CAUSE}
    assert events.asked[0] == ("Event", "models", "regarding.kind=Pod,regarding.uid=uid-a")


async def test_nothing_is_asked_without_pods():
    events = Events({})
    assert await MountProbe(events).read([]) == {}
    assert events.asked == []


async def test_an_operator_with_an_older_role_goes_on_without(caplog):
    events = Events({"uid-a": Forbidden("events is forbidden", status=403)})
    assert await MountProbe(events).read([pod("a")]) == {}
    assert "apply the operator's role again" in caplog.text


async def test_a_cluster_that_does_not_answer_is_asked_again_later():
    events = Events({"uid-a": Unavailable("down", status=503)})
    with pytest.raises(Unavailable):
        await MountProbe(events).read([pod("a")])
