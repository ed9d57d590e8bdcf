"""How often, and how much: limits that hold for a replica, or for all of them."""

from modelserver_runtime.access.limits.charge import (
    Admission,
    Algorithm,
    Charge,
    Decision,
    Slot,
    Unit,
    Verdict,
)
from modelserver_runtime.access.limits.limiter import Limiter

__all__ = ["Admission", "Algorithm", "Charge", "Decision", "Limiter", "Slot", "Unit", "Verdict"]
