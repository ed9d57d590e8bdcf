"""Resolves and fetches model artefacts; knows the hub and the disk, no tensors."""

from modelserver_runtime.artifacts.directory import check_directory
from modelserver_runtime.artifacts.fetch import Tuning, fetch, resolve
from modelserver_runtime.artifacts.manifest import read_manifest
from modelserver_runtime.artifacts.progress import Phase, Progress, ProgressReport
from modelserver_runtime.artifacts.report import line_of, print_progress, serve_progress
from modelserver_runtime.artifacts.safetensors_header import tensor_bytes
from modelserver_runtime.artifacts.source import (
    HUB,
    ArtifactPolicy,
    ArtifactSummary,
    HubAccess,
    ModelSource,
    ModelUri,
    Scheme,
    parse_uri,
    repository_of,
)

__all__ = [
    "HUB",
    "ArtifactPolicy",
    "ArtifactSummary",
    "HubAccess",
    "ModelSource",
    "ModelUri",
    "Phase",
    "Progress",
    "ProgressReport",
    "Scheme",
    "Tuning",
    "check_directory",
    "fetch",
    "line_of",
    "parse_uri",
    "print_progress",
    "read_manifest",
    "repository_of",
    "resolve",
    "serve_progress",
    "tensor_bytes",
]
