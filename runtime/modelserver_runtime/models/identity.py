"""What tells one model's answers from another's, also in other processes: the key of caches."""

import hashlib
import json
from dataclasses import asdict

from modelserver_runtime import __version__
from modelserver_runtime.backends.base import ModelDescription
from modelserver_runtime.settings import Settings

# Of a description: what a replica has more or less of than another one that answers the same.
_INDIFFERENT = frozenset({"threads", "memory_bytes", "device"})


def identity_of(settings: Settings, description: ModelDescription) -> str:
    """Changes with the weights and with everything else that changes an answer to the same input.

    Replicas with the same files agree on it, whichever of their devices of one kind computes.
    """
    described = {k: v for k, v in asdict(description).items() if k not in _INDIFFERENT}
    parts = [
        *(__version__, settings.model_uri, settings.model_revision, settings.max_model_length),
        *(settings.allow_pickle, settings.trust_remote_code),
        description.device.partition(":")[0],
        described,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
