"""What all bodies have in common; see `tasks.fields`."""

from modelserver_runtime.tasks.fields import Answer, RequestBody

__all__ = ["Answer", "RequestBody"]
