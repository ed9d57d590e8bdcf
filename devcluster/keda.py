"""The real KEDA: its operator, its metrics adapter and its admission webhooks.

Their certificates are of the cluster's own authority. KEDA would make its own, which takes its
programs a few restarts, and a minute, until they agree.
"""

import base64
from pathlib import Path

from devcluster.catalog import KEDA as VERSION
from devcluster.certificates import Certificates, Subject, make_certificates
from devcluster.cluster import Cluster
from devcluster.extension import Extension
from devcluster.kustomized import Manifest
from devcluster.module_files import Module

NAMESPACE = "keda"
_SECRET = "kedaorg-certs"  # noqa: S105  a name
_SERVICES = ("keda-operator", "keda-metrics-apiserver", "keda-admission-webhooks")
_ROTATION = "--enable-cert-rotation"


def adapted(cluster: Cluster, manifests: list[Manifest]) -> list[Manifest]:
    certificates = make_certificates(cluster.folder.certificates, (_subject(),))
    authority = _encoded(certificates.ca)
    for one in manifests:
        _trust(one, authority)
        if one["kind"] == "Deployment":
            [container] = one["spec"]["template"]["spec"]["containers"]
            container["args"] = [a for a in container["args"] if not a.startswith(_ROTATION)]
    return [*manifests, _secret(certificates)]


def _subject() -> Subject:
    """One for all three, as KEDA's own."""
    names = [f"{name}.{NAMESPACE}.svc" for name in _SERVICES]
    alternatives = (f"DNS:{name}{domain}" for name in names for domain in ("", ".cluster.local"))
    return Subject(name="keda", user="keda", alternatives=tuple(alternatives))


def _trust(manifest: Manifest, authority: str) -> None:
    if manifest["kind"] == "APIService":
        manifest["spec"]["caBundle"] = authority
    for webhook in manifest.get("webhooks", ()):
        webhook["clientConfig"]["caBundle"] = authority


def _secret(certificates: Certificates) -> Manifest:
    files = {
        "ca.crt": certificates.ca,
        "tls.crt": certificates.certificate("keda"),
        "tls.key": certificates.key("keda"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": _SECRET, "namespace": NAMESPACE},
        "data": {name: _encoded(path) for name, path in files.items()},
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


KEDA = Extension(
    name="keda",
    namespace=NAMESPACE,
    module=Module(
        path="github.com/kedacore/keda/v2",
        version=VERSION,
        checksum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    ),
    kustomization="config/default",
    programs={
        "keda-operator": "keda-operator",
        "keda-metrics-apiserver": "keda-adapter",
        "keda-admission": "keda-admission-webhooks",
    },
    api="v1beta1.external.metrics.k8s.io",
    adapt=adapted,
)
