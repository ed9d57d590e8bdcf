"""The revisions of a server that are kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.resources import labels
from modelserver_operator.resources.revision import revision_from_data
from modelserver_operator.rollout.effects import is_going_on

type Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A revision. `number` is that of its ControllerRevision: the highest was asked for last."""

    number: int
    revision: str
    model: str = ""
    commit: str = ""
    image: str = ""
    created_at: str = ""
    state: str = ""
    """`serving`, `new`, `failed` or `kept`."""
    why: str = ""


def history_of(records: Iterable[Manifest], status: ModelServerStatus) -> tuple[Entry, ...]:
    """The newest first."""
    entries = (_entry(record, status) for record in records)
    return tuple(sorted(entries, key=lambda entry: -entry.number))


def _entry(record: Manifest, status: ModelServerStatus) -> Entry:
    metadata = record["metadata"]
    name = str((metadata.get("labels") or {}).get(labels.REVISION, ""))
    revision = revision_from_data(record.get("data") or {})
    state, why = state_of(name, status)
    return Entry(
        number=int(record.get("revision", 0)),
        revision=name,
        model=revision.served.model.uri if revision else "",
        commit=revision.commit if revision else "",
        image=revision.server_image if revision else "",
        created_at=metadata.get("creationTimestamp") or "",
        state=state,
        why=why,
    )


def state_of(revision: str, status: ModelServerStatus) -> tuple[str, str]:
    run = status.rollout
    failure = next((one for one in status.failed_revisions if one.revision == revision), None)
    if revision == status.serving_revision:
        command = status.rolled_back_to
        is_ordered = command is not None and command.revision == revision
        return "serving", f"by command, instead of {command.instead_of}" if (
            command and is_ordered
        ) else ""
    if run is not None and run.to == revision and is_going_on(run):
        return "new", run.message
    if failure is not None:
        return "failed", f"{failure.reason}: {failure.evidence}"
    return "kept", ""
