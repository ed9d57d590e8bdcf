"""The real metrics-server, so that HPAs see cpu and memory of pods."""

from devcluster.catalog import METRICS_SERVER as VERSION
from devcluster.cluster import Cluster
from devcluster.extension import Extension
from devcluster.kustomized import Manifest
from devcluster.module_files import Module

NAME = "metrics-server"
# The shortest that it accepts: a test waits for two samples.
_LOOKS_EVERY = "--metric-resolution=10s"
_ASKS_FOR = "--kubelet-request-timeout=5s"  # its default is as long as it may be until the next


def adapted(_cluster: Cluster, manifests: list[Manifest]) -> list[Manifest]:
    """The kubelet's certificate is of the authority that every pod knows, and is verified."""
    for one in manifests:
        if one["kind"] == "Deployment":
            [container] = one["spec"]["template"]["spec"]["containers"]
            kept = [flag for flag in container["args"] if not flag.startswith("--metric-res")]
            container["args"] = [*kept, _LOOKS_EVERY, _ASKS_FOR]
    return manifests


METRICS_SERVER = Extension(
    name=NAME,
    namespace="kube-system",
    module=Module(
        path="sigs.k8s.io/metrics-server",
        version=VERSION,
        checksum="h1:nlqqZ2H0Xfko8eJC/1qaNVVT17hu4rxndkOi22KTZ4w=",
    ),
    kustomization="manifests/base",
    programs={NAME: NAME},
    api="v1beta1.metrics.k8s.io",
    adapt=adapted,
)
