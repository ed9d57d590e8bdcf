"""What a ModelServer asks for, in the terms of a rollout."""

from modelserver_operator.apis.rollout import RolloutSpec
from modelserver_operator.apis.traffic import Traffic
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.looks import stored_revisions
from modelserver_operator.plan.scaling_values import Sizing
from modelserver_operator.plan.values import Observed
from modelserver_operator.resources import labels
from modelserver_operator.resources.router_choice import RouterChoice, router_of
from modelserver_operator.rollout.sight import Wish


def choice_of(server: ModelServer, observed: Observed) -> RouterChoice:
    traffic = server.spec.traffic or Traffic()
    return router_of(traffic, server.spec.rollout, observed.capabilities)


def wish_of(
    server: ModelServer, target: str, sizing: Sizing, observed: Observed, config: OperatorConfig
) -> Wish:
    """`target` is the revision of the spec, "" while its model is being resolved."""
    command = server.metadata.annotations.get(labels.COMMAND, "")
    return Wish(
        generation=server.metadata.generation,
        target=target,
        replicas=sizing.replicas,
        rollout=server.spec.rollout or RolloutSpec(),
        router=choice_of(server, observed).router,
        command=command,
        # Only a command needs them, and to read all of them takes longer than all the rest.
        known_revisions=frozenset(stored_revisions(observed)) if command else frozenset(),
        is_being_deleted=server.is_being_deleted,
        settle_seconds=config.settle_seconds,
    )
