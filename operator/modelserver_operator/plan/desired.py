"""The planner: what one reconciliation should do, from what it sees."""

from datetime import datetime

from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.plan.values import Observed, Plan


def desired_state(
    server: ModelServer, observed: Observed, config: OperatorConfig, now: datetime
) -> Plan:
    """`now` is aware and in UTC. A server that is being deleted gets an empty plan."""
    raise NotImplementedError
