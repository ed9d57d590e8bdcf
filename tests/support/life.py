"""States of a ModelServer's life, as the operator's own core brings them about."""

from modelserver_operator.plan.values import ChildKey
from support import pod_outcomes
from support.world import World, pinned

UNSTARTED = pod_outcomes.Outcome(name="unstarted", status_of=lambda _: {"phase": "Pending"})
BROKEN = pod_outcomes.exiting(2, code="InvalidConfiguration", message="--no is no flag")


def new():
    """Seen for the first time; pods exist, nothing has happened to them."""
    world = World(pinned(), UNSTARTED)
    world.step()
    return world


def ready(**spec):
    world = World(pinned(**spec))
    world.steps(3)
    return world


def broken():
    world = World(pinned(), BROKEN)
    world.steps(2)
    return world


def rolling(outcome=UNSTARTED):
    world = ready()
    world.outcomes = {world.status["servingRevision"]: pod_outcomes.FINE}
    world.outcome = outcome
    world.change(runtime={"args": ["--other"]})
    world.steps(2)
    return world


def settling():
    world = rolling()
    world.outcome = pod_outcomes.FINE
    world.steps(3)
    return world


def rolled():
    world = settling()
    world.steps(3, seconds=10)
    return world


def scaled_to_zero():
    world = ready()
    world.change(replicas=0)
    world.steps(2)
    return world


def suspended():
    world = ready()
    world.change(suspend=True)
    world.steps(2)
    return world


def replica_lost():
    world = ready(replicas=2)
    world.pods[1]["status"] = UNSTARTED.status_of(world.pods[1])
    world.status = world.look()
    return world


def in_conflict():
    stranger = {"kind": "Service", "metadata": {"name": "chat", "namespace": "ns"}}
    world = World(pinned(), strangers={ChildKey("Service", "chat"): stranger})
    world.steps(2)
    return world
