"""The committed CRD, in an API server."""

from pathlib import Path

import yaml

from support.kube import Kube
from support.waiting import wait_until

CRD = Path(__file__).parents[2] / "crds" / "modelserver.yaml"
_GROUP = "/apis/modelserver.dev/v1alpha1"


def install_definition(kube: Kube) -> None:
    """Applies it and waits until resources of its kind are served."""
    kube.apply(yaml.safe_load(CRD.read_text()))
    wait_until(lambda: kube.get(_GROUP), timeout=20, what="the ModelServer kind is served")
