"""Requests for models that are not there just now: they wait, and wake them."""

from modelserver_runtime.gateway.holder.holder import Holder
from modelserver_runtime.gateway.holder.surroundings import Probe, Probed, Wakes
from modelserver_runtime.gateway.holder.waiting import Held

__all__ = ["Held", "Holder", "Probe", "Probed", "Wakes"]
