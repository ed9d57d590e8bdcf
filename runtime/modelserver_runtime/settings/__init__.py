"""Every setting of the runtime; a module for each concern."""

from modelserver_runtime.settings.names import PREFIX, flag_of, variable_of
from modelserver_runtime.settings.reading import Settings, load_settings
from modelserver_runtime.settings.values import Dtype, QueueScope, Task

__all__ = [
    "PREFIX",
    "Dtype",
    "QueueScope",
    "Settings",
    "Task",
    "flag_of",
    "load_settings",
    "variable_of",
]
