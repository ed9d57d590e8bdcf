"""Commands as the operator takes them: `<verb>/<revision>/<token>` in an annotation."""

from collections.abc import Sequence

from modelserver_cli.errors import CommandFailed
from modelserver_cli.reading.history import Entry
from modelserver_operator.apis.rollout_status import Rollout
from modelserver_operator.apis.status import ModelServerStatus
from modelserver_operator.rollout.effects import is_going_on

# Commands about the rollout that is going on, as the operator calls them.
_VERBS = {"promote": "promote-step", "abort": "abort", "pause": "pause", "resume": "resume"}


def order_for_run(
    server: str, command: str, status: ModelServerStatus, *, in_full: bool = False
) -> str:
    """Without its token. It names its revision, so that a late one hits no other."""
    run = status.rollout
    if run is None or not is_going_on(run):
        raise CommandFailed(
            f"No rollout of {server} is going on that could be told to {command}{_instead(run)}"
        )
    return f"{'promote-full' if in_full else _VERBS[command]}/{run.to}"


def _instead(run: Rollout | None) -> str:
    if run is None:
        return ""
    if not run.is_decided_by_evidence:
        return (
            f": revision {run.to} takes over by strategy Rolling, which goes by itself; to go back,"
            " set the spec back or give the command rollback"
        )
    return f": the last one, of revision {run.to}, ended as {run.phase}"


def order_to_retry(server: str, status: ModelServerStatus) -> str:
    """The failed revision that the spec asks for, else the one that failed last."""
    failed = [one.revision for one in sorted(status.failed_revisions, key=lambda one: one.at)]
    if not failed:
        raise CommandFailed(f"No revision of {server} has failed, so there is nothing to retry")
    wanted = status.target_revision
    return f"retry/{wanted if wanted in failed else failed[-1]}"


def order_to_roll_back(
    server: str, status: ModelServerStatus, history: Sequence[Entry], to: str
) -> str:
    """To `to`, or to the newest revision that has not failed and does not serve."""
    kept = [entry.revision for entry in history]
    if to:
        if to not in kept:
            raise CommandFailed(
                f"Revision {to} of {server} is not kept; kept are {', '.join(kept) or 'none'}",
                hint=f"`modelserver history {server}` lists them.",
            )
        if to == status.serving_revision and status.rolled_back_to is None:
            raise CommandFailed(f"Revision {to} of {server} serves already")
        return f"rollback-to/{to}"
    failed = {one.revision for one in status.failed_revisions}
    others = [one for one in kept if one not in failed | {_latest(status)}]
    if not others:
        raise CommandFailed(
            f"There is no earlier revision of {server} to go back to",
            hint="spec.rollout.historyLimit says how many are kept.",
        )
    return f"rollback-to/{others[0]}"


def _latest(status: ModelServerStatus) -> str:
    """What serves, or is about to."""
    run = status.rollout
    return run.to if run is not None and is_going_on(run) else status.serving_revision
