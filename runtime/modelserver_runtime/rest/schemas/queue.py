"""The answer of /admin/queue/stats."""

from modelserver_runtime.tasks.fields import Answer


class TenantQueue(Answer):
    """Counts since the model was loaded; `tenant` is empty for callers without a key."""

    tenant: str
    waiting: int
    oldest_seconds: float
    admitted: int
    refused: int
    timed_out: int


class PriorityQueue(Answer):
    """`predicted_wait_seconds` is what a new request of a new tenant would wait."""

    priority: str
    waiting: int
    oldest_seconds: float
    predicted_wait_seconds: float
    tenants: list[TenantQueue]


class ModelQueue(Answer):
    """`running` requests share `places`; `typical_seconds` is how long one stays."""

    model: str
    places: int
    running: int
    typical_seconds: float
    circuits: dict[str, str]
    priorities: list[PriorityQueue]


class QueueStats(Answer):
    """Of the models in memory; with the scope `Server` all stand in one queue."""

    scope: str
    max_waiting: int
    timeout_seconds: float
    models: list[ModelQueue]
