"""Hashes of values: canonical JSON, sha256, hexadecimal, cut."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: Any, *, length: int) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
