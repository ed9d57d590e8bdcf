"""Kubeconfig files: for a person, and for each program of the cluster."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster.certificates import Certificates


def make_kubeconfig(
    certificates: Certificates, *, cluster: str, server: str, subject: str
) -> dict[str, Any]:
    """A kubeconfig that needs no other file, so that it can be copied anywhere."""
    context = f"devcluster-{cluster}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": context,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _encoded(certificates.ca),
                },
            }
        ],
        "users": [
            {
                "name": subject,
                "user": {
                    "client-certificate-data": _encoded(certificates.certificate(subject)),
                    "client-key-data": _encoded(certificates.key(subject)),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": subject}}],
        "current-context": context,
    }


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, and replace the old one in one step."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(content)
    unfinished.rename(path)


def write_kubeconfigs(
    certificates: Certificates, server: str, cluster: str, paths: Mapping[str, Path]
) -> None:
    """One file for each subject."""
    for subject, path in paths.items():
        kubeconfig = make_kubeconfig(certificates, cluster=cluster, server=server, subject=subject)
        write_private(path, yaml.safe_dump(kubeconfig, sort_keys=False))


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
