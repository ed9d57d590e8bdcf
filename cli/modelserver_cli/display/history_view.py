"""The kept revisions as lines."""

from collections.abc import Iterable, Sequence

from modelserver_cli.display.words import columns
from modelserver_cli.reading.history import Entry

_TITLES = ("NUMBER", "REVISION", "STATE", "MODEL", "COMMIT", "SINCE", "WHY")
_COMMIT_LETTERS = 12


def history_lines(entries: Sequence[Entry]) -> Iterable[str]:
    rows = [
        (
            str(entry.number),
            entry.revision,
            entry.state,
            entry.model or "-",
            entry.commit[:_COMMIT_LETTERS] or "-",
            entry.created_at or "-",
            entry.why,
        )
        for entry in entries
    ]
    return columns([_TITLES, *rows])
