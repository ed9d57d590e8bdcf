"""Which pod of a model gets a request. Pure: the time is handed in."""

from modelserver_runtime.gateway.balance.balancer import Balancer
from modelserver_runtime.gateway.balance.outliers import Outliers

__all__ = ["Balancer", "Outliers"]
