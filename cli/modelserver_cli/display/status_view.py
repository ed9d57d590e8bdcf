"""The picture of a server as lines; colour says again what the words say."""

from collections.abc import Iterator

from rich.text import Text

from modelserver_cli.display.experiments_view import experiment_lines
from modelserver_cli.display.scaling_view import scaling_lines
from modelserver_cli.display.words import bar, columns, duration
from modelserver_cli.reading.picture import GatePicture, Picture, RevisionPicture, RunPicture
from modelserver_operator.apis.rollout_status import RolloutPhase

_COLOURS = {"True": "green", "False": "red", "Passing": "green", "Failing": "red"}
_COMMIT_LETTERS = 12


def status_lines(picture: Picture, *, ascii_only: bool = False) -> Iterator[Text]:
    yield Text(f"{picture.namespace}/{picture.name}  {picture.url}".rstrip(), style="bold")
    ready = Text("  ready: ")
    ready.append(picture.ready, style=_COLOURS.get(picture.ready, "yellow"))
    yield ready.append(f"  {picture.ready_message}")
    if not picture.is_current:
        yield Text("  the operator has not seen the newest spec yet", style="yellow")
    if picture.diagnosis:
        yield Text(f"  problem: {picture.diagnosis}", style="red")
        yield Text(f"  to do: {picture.hint}")
    yield from _revisions(picture, ascii_only=ascii_only)
    if picture.run is not None:
        yield from _run(picture.run)
    yield from experiment_lines(picture.experiments)
    yield from scaling_lines(picture.scaling)
    yield from _ended(picture)


def _revisions(picture: Picture, *, ascii_only: bool) -> Iterator[Text]:
    if not picture.revisions:
        return
    yield Text()
    yield Text("revisions", style="bold")
    rows = [_revision(one, ascii_only=ascii_only) for one in picture.revisions]
    for line in columns(rows):
        yield Text(f"  {line}")


def _revision(one: RevisionPicture, *, ascii_only: bool) -> tuple[str, ...]:
    commit = f"@{one.commit[:_COMMIT_LETTERS]}" if one.commit else ""
    return (
        one.revision,
        one.state,
        f"{one.weight_percent:3} %",
        bar(one.weight_percent, ascii_only=ascii_only),
        f"{one.ready}/{one.wanted} ready",
        f"{one.model}{commit}",
        _measured(one),
    )


def _measured(one: RevisionPicture) -> str:
    if not one.requests:
        return ""
    parts = [f"{one.requests} requests"]
    if one.errors_percent:
        parts.append(f"{one.errors_percent} % failed")
    if one.slow_percent:
        parts.append(f"{one.slow_percent} % slow")
    return ", ".join(parts)


def _run(run: RunPicture) -> Iterator[Text]:
    yield Text()
    yield Text("last rollout" if run.is_over else "rollout", style="bold")
    came_from = f" from {run.source}" if run.source else ""
    yield Text(
        f"  {run.target} {_takes_over(run)}{came_from} ({run.strategy}),"
        f" began {duration(run.running_seconds)} ago"
    )
    yield _phase(run)
    if run.steps:
        yield Text(f"  steps: {_steps(run)}")
    yield from _traffic(run)
    if run.preflight:
        yield Text(f"  golden set: {run.preflight}")
    yield from _waiting(run)
    if run.gates:
        yield Text()
        yield Text("evidence", style="bold")
        yield from _gates(run.gates)


def _takes_over(run: RunPicture) -> str:
    if not run.is_over:
        return "takes over"
    return "took over" if run.phase == RolloutPhase.SUCCEEDED else "was to take over"


def _phase(run: RunPicture) -> Text:
    line = Text("  phase: ").append(run.phase, style="cyan")
    return line.append(f"  {run.message}") if run.message else line


def _steps(run: RunPicture) -> str:
    """The one that is entered or held is in brackets."""
    names = [f"{weight} %" for weight in run.steps]
    if not run.is_over:
        names[run.step - 1] = f"[{names[run.step - 1]}]"
    return f"{' '.join(names)}  (step {run.step} of {len(names)})"


def _traffic(run: RunPicture) -> Iterator[Text]:
    if run.is_over:
        return
    said = "confirmed by every router" if run.is_confirmed else "not confirmed by every router yet"
    observed = f", observed {run.observed_percent} %" if run.observed_percent else ""
    if run.steps:
        yield Text(f"  weight: {run.intended_percent} %, {said}{observed}")
    if run.mirror_percent:
        yield Text(f"  shadow: {run.mirror_percent} % of the requests are copied")
    if run.is_holding_requests:
        yield Text("  requests are held at the router")


def _waiting(run: RunPicture) -> Iterator[Text]:
    if run.held_seconds is not None and not run.is_over:
        yield Text(f"  held for {duration(run.held_seconds)}{_next(run)}")
    elif run.next_step_seconds is not None:
        yield Text(f"  {_next(run).removeprefix(', ')}")
    if run.holding:
        yield Text(f"  waits: {run.holding}", style="yellow")
    if run.paused:
        yield Text(f"  paused: {run.paused}", style="yellow")
    if run.evidence:
        yield Text(f"  why: {run.evidence}", style="red")
    if run.decision:
        ago = f" ({duration(run.decided_seconds_ago or 0)} ago)"
        yield Text(f"  last decision: {run.decision}{ago}")


def _next(run: RunPicture) -> str:
    if run.next_step_seconds is None:
        return ""
    if run.next_step_seconds == 0:
        return ", long enough: evidence decides"
    return f", for {duration(run.next_step_seconds)} more at least"


def _gates(gates: tuple[GatePicture, ...]) -> Iterator[Text]:
    rows = [
        (
            gate.name,
            gate.outcome,
            f"new {gate.bad}/{gate.requests}",
            f"stable {gate.stable_bad}/{gate.stable_requests}",
        )
        for gate in gates
    ]
    for gate, row in zip(gates, columns(rows), strict=True):
        line = Text(f"  {row}")
        line.highlight_words([gate.outcome], style=_COLOURS.get(gate.outcome, "yellow"))
        yield line
        if gate.message:
            yield Text(f"    {gate.message}", style="dim")


def _ended(picture: Picture) -> Iterator[Text]:
    if picture.failed:
        yield Text()
        yield Text("failed revisions", style="bold")
        for sentence in picture.failed:
            yield Text(f"  {sentence}")
    if picture.last_command:
        yield Text()
        yield Text(f"last command: {picture.last_command}")
