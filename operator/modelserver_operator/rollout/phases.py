"""The way forward of a run that has room for both revisions, phase by phase.

    Preparing → Preflight? → Shadowing? → Stepping(i) ⇄ Analyzing(i) → Promoting → Baking → Settling

Each function looks at one phase and gives the run as it stays, waits, or goes on. One phase is left
at a time, so that its effects are there before the next begins.
"""

from modelserver_operator.apis.rollout import WHOLE, Approval, Shadow, Strategy
from modelserver_operator.apis.rollout_status import Rollout, RolloutPhase
from modelserver_operator.apis.traffic import Router
from modelserver_operator.rollout import clocks
from modelserver_operator.rollout.checks import checks_missing
from modelserver_operator.rollout.effects import examined_share
from modelserver_operator.rollout.evidence import at_next_step, has_enough, undecided
from modelserver_operator.rollout.reasons import Back, Waiting
from modelserver_operator.rollout.retreat import going_back_for
from modelserver_operator.rollout.routing import route_missing
from modelserver_operator.rollout.scene import Scene


def preparing(scene: Scene) -> Rollout:
    first = examined_share(scene.run, scene.rules)
    if waiting := pods_missing(scene, first) or route_missing(scene):
        return waiting
    if not scene.new.is_settled:
        return scene.told(f"the pods of revision {scene.run.to} are ready and settle")
    if scene.rules.preflight is not None and not scene.run.is_promoted:
        cases = scene.rules.preflight.golden_set.config_map_ref
        message = f"the golden set {cases.name} is asked of revision {scene.run.to}"
        return scene.entered(RolloutPhase.PREFLIGHT, message)
    return after_preflight(scene)


def pods_missing(scene: Scene, percent: int) -> Rollout | None:
    """The run as it waits for pods of the new revision; None if they are enough."""
    needed = scene.pods_for(percent)
    if scene.new.ready >= needed:
        return None
    if scene.new.unschedulable:
        return scene.held(
            Waiting.NO_CAPACITY,
            f"there is no room for the pods of revision {scene.run.to}: {scene.new.unschedulable};"
            " make room, or choose strategy HoldAndSwap, which needs none",
        )
    found = f"{scene.new.ready} of {needed} pods of revision {scene.run.to} are ready"
    return scene.told(f"waiting for pods: {found}")


def preflight(scene: Scene) -> Rollout:
    answer, rules = scene.sight.preflight, scene.rules.preflight
    if rules is None:
        return after_preflight(scene)
    total = answer.passed + answer.failed if answer else 0
    if answer is None or not total:
        return _preflight_unanswered(scene)
    run = scene.changed(preflight=answer)
    scene = scene.with_run(run)
    found = f"{answer.passed} of {total} cases of the golden set passed"
    if WHOLE * answer.passed < rules.min_pass_percent * total:
        evidence = f"{found}, {rules.min_pass_percent} % must; {answer.message}"
        return going_back_for(scene, Back.PREFLIGHT_FAILED, evidence)
    return after_preflight(scene)


def _preflight_unanswered(scene: Scene) -> Rollout:
    if scene.sight.preflight_failure:
        return scene.held(
            Waiting.PREFLIGHT_UNANSWERED,
            f"the golden set could not be asked: {scene.sight.preflight_failure}",
        )
    return scene.told(f"waiting for the answers of revision {scene.run.to} to the golden set")


def after_preflight(scene: Scene) -> Rollout:
    shadow = scene.rules.shadow
    if shadow is None or scene.run.is_promoted:
        return next_step(scene, 0)
    copied = scene.weighted(0, "", mirror_percent=shadow.percent)
    message = f"{shadow.percent} % of the requests are copied to revision {scene.run.to}"
    return scene.with_run(copied).entered(RolloutPhase.SHADOWING, message)


def shadowing(scene: Scene) -> Rollout:
    shadow = scene.rules.shadow
    if shadow is None or scene.run.is_promoted:
        return after_shadowing(scene)
    if waiting := _comparer_missing(scene) or route_missing(scene) or _metrics_missing(scene):
        return waiting
    if scene.sight.answers is None:
        return scene.run
    if waiting := _copies_missing(scene, shadow) or _evidence_missing(scene):
        return waiting
    if shadow.only:
        return scene.held(
            Waiting.AWAITING_APPROVAL,
            "the answers agree; spec.rollout.shadow.only waits for the command promote-step",
        )
    return after_shadowing(scene)


def _comparer_missing(scene: Scene) -> Rollout | None:
    if scene.wish.router is Router.GATEWAY:
        return None
    copied = "nothing is copied" if scene.wish.router is Router.NONE else "copies are not compared"
    return scene.held(
        Waiting.ROUTER_NOT_READY,
        f"{copied}: only the built-in router compares the answers, and spec.traffic.router is"
        f" {scene.wish.router}; set it to Gateway, or look at the metrics of revision"
        f" {scene.run.to} and give the command promote-step",
    )


def _copies_missing(scene: Scene, shadow: Shadow) -> Rollout | None:
    copied = clocks.seconds_since(scene.run.weights.confirmed_at, scene.now)
    if copied >= shadow.hold_seconds:
        return None
    return scene.told(f"requests are copied for {shadow.hold_seconds - copied:.0f} s more")


def after_shadowing(scene: Scene) -> Rollout:
    """Copies end; the route says so together with what it says next, or at once."""
    ended = scene.weighted(0, "", mirror_percent=0, is_approved=False)
    return next_step(scene.with_run(ended), 0)


def next_step(scene: Scene, index: int) -> Rollout:
    last = len(scene.rules.run_steps) - 1
    index = last if scene.run.is_promoted else index
    weight = scene.rules.run_steps[index].weight_percent
    message = f"step {index + 1} of {last + 1}: {weight} % of the traffic for {scene.run.to}"
    return scene.entered(RolloutPhase.STEPPING, message, step_index=index, step_entered_at=None)


def stepping(scene: Scene) -> Rollout:
    """Pods first, then weight; the step begins when every router has confirmed it."""
    run = scene.run
    if waiting := _approval_missing(scene) or route_missing(scene):
        return waiting
    goal = scene.rules.run_steps[run.step_index].weight_percent
    if run.weights.intended == goal:
        return _step_entered(scene)
    weight = scene.next_weight
    if weight > run.weights.intended:
        if waiting := pods_missing(scene, weight):
            return waiting
        if scene.is_stable_down:
            return stable_missing(scene)
    return scene.weighted(weight, f"the route is to give {weight} % to revision {run.to}")


def _step_entered(scene: Scene) -> Rollout:
    run, weight = scene.run, scene.run.weights.intended
    if scene.rules.chosen is Strategy.BLUE_GREEN or (run.is_promoted and scene.is_last_step):
        message = f"revision {run.to} has all traffic"
        return scene.entered(RolloutPhase.PROMOTING, message)
    return scene.entered(
        RolloutPhase.ANALYZING,
        f"revision {run.to} has {weight} % of the traffic and is compared with {run.from_}",
        step_entered_at=clocks.timestamp(scene.now),
        gates=at_next_step(run.gates),
        step_stable_requests=0,
    )


def _approval_missing(scene: Scene) -> Rollout | None:
    run = scene.run
    is_needed = scene.rules.approval is Approval.MANUAL and scene.is_last_step
    if not is_needed or run.is_approved or run.is_promoted:
        return None
    if run.weights.intended == WHOLE:
        return None
    return scene.held(
        Waiting.AWAITING_APPROVAL,
        f"the last step waits for approval: command promote-step/{run.to}/<token>",
    )


def stable_missing(scene: Scene) -> Rollout:
    return scene.held(
        Waiting.STABLE_NOT_READY,
        f"no pod of the stable revision {scene.run.from_} is ready, so there is nothing to compare"
        f" with; the command promote-full goes on to {scene.run.to} nevertheless",
    )


def analyzing(scene: Scene) -> Rollout:
    run = scene.run
    if run.weights.confirmed_at is None:
        return entered_again(scene, "the route has to be confirmed again")
    if run.is_promoted:
        return after_step(scene)
    if waiting := _comparison_missing(scene):
        return waiting
    if scene.sight.answers is None:
        return run
    missing = checks_missing(scene) or _hold_missing(scene) or _evidence_missing(scene)
    return missing or after_step(scene)


def _comparison_missing(scene: Scene) -> Rollout | None:
    if waiting := _metrics_missing(scene):
        return waiting
    is_compared = scene.run.weights.intended < WHOLE
    return stable_missing(scene) if scene.is_stable_down and is_compared else None


def _hold_missing(scene: Scene) -> Rollout | None:
    hold = scene.rules.run_steps[scene.run.step_index].hold_seconds
    held = clocks.seconds_since(scene.run.step_entered_at, scene.now)
    if held >= hold:
        return None
    return scene.told(f"{scene.run.weights.intended} % is held for {hold - held:.0f} s more")


def entered_again(scene: Scene, why: str) -> Rollout:
    """The same step from its beginning."""
    message = f"step {scene.run.step_index + 1} is entered again: {why}"
    return scene.entered(RolloutPhase.STEPPING, message, step_entered_at=None)


def after_step(scene: Scene) -> Rollout:
    if scene.is_last_step:
        return scene.entered(RolloutPhase.PROMOTING, f"revision {scene.run.to} takes over")
    return next_step(scene, scene.run.step_index + 1)


def _metrics_missing(scene: Scene) -> Rollout | None:
    if not scene.sight.metrics_unavailable:
        return None
    return scene.held(
        Waiting.METRICS_UNAVAILABLE,
        f"requests cannot be counted: {scene.sight.metrics_unavailable}",
    )


def _evidence_missing(scene: Scene) -> Rollout | None:
    """The run as it waits for requests, or for clearer evidence; None if all gates pass."""
    open_gates = undecided(scene.run)
    few = [gate for gate in open_gates if not has_enough(gate, scene.rules)]
    if few:
        return scene.held(Waiting.TOO_FEW_REQUESTS, f"{few[0].name}: {few[0].message}")
    if open_gates:
        first = open_gates[0]
        return scene.held(Waiting.EVIDENCE_UNCLEAR, f"{first.name}: {first.message}")
    return None


def promoting(scene: Scene) -> Rollout:
    """Leaving this phase is the commit: the status that says Baking says who serves, too."""
    run = scene.run
    if run.weights.confirmed_at is None:
        return entered_again(scene, "the route has to be confirmed again")
    if waiting := pods_missing(scene, WHOLE):
        return waiting
    message = f"revision {run.to} serves; {run.from_} is kept for {scene.rules.bake_seconds} s"
    return scene.entered(RolloutPhase.BAKING, message)


def baking(scene: Scene) -> Rollout:
    run, bake = scene.run, scene.rules.bake_seconds
    left = _left(scene, bake)
    if not bake or (run.is_promoted and not left):
        return settling_begun(scene)
    if waiting := _metrics_missing(scene):
        return waiting
    if scene.sight.answers is None:
        return run
    if left:
        return scene.told(f"revision {run.to} serves; {run.from_} is kept for {left:.0f} s more")
    compared = [gate for gate in undecided(run) if gate.stable_requests]
    if compared and not run.is_promoted:
        gate = compared[0]
        return scene.held(Waiting.EVIDENCE_UNCLEAR, f"{gate.name}: {gate.message}")
    return settling_begun(scene)


def _left(scene: Scene, seconds: float) -> float:
    return max(0.0, seconds - clocks.seconds_since(scene.run.phase_since, scene.now))


def settling_begun(scene: Scene) -> Rollout:
    return scene.entered(
        RolloutPhase.SETTLING,
        f"revision {scene.run.to} serves; the pods of {scene.run.from_} end",
        settling_since=clocks.timestamp(scene.now),
        phase_deadline=None,
        deadline=None,
    )


def settling(scene: Scene) -> Rollout:
    """Every node must have learnt where the Service leads before the other pods end."""
    settled = clocks.seconds_since(scene.run.settling_since, scene.now)
    if settled < scene.wish.settle_seconds:
        return scene.told(scene.run.message)
    return scene.closed(RolloutPhase.SUCCEEDED, f"revision {scene.run.to} has taken over")
