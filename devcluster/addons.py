"""What a cluster has besides its programs: names (CoreDNS) and volumes."""

import json
from pathlib import Path
from typing import Any

import yaml

from devcluster.command import run
from devcluster.machine_traces import empty_folder
from devcluster.paths import ClusterFolder
from devcluster.record import ClusterRecord

_VOLUMES = 16
_VOLUME_SIZE = "10Gi"
_COREFILE = """\
.:5353 {
    errors
    health :8080 {
        lameduck 2s
    }
    ready :8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    prometheus :9153
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    reload
}
"""

type Manifest = dict[str, Any]


def corefile(resolver: str) -> str:
    """Ask the machine's name servers for what is not of the cluster, if it has any."""
    forward = "    forward . /etc/resolv.conf\n" if "nameserver" in resolver else ""
    return _COREFILE.replace("    cache 30", f"{forward}    cache 30")


def dns_manifests(record: ClusterRecord, image: str, resolver: str) -> list[Manifest]:
    """CoreDNS for the address that the kubelet puts into every pod's resolv.conf."""
    names = {"name": "coredns", "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": names},
        _dns_role(),
        _dns_role_binding(),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": names,
            "data": {"Corefile": corefile(resolver)},
        },
        _dns_deployment(image),
        _dns_service(record),
    ]


def _dns_role() -> Manifest:
    core = {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"]}
    slices = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]}
    verbs = {"verbs": ["list", "watch"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:coredns"},
        "rules": [core | verbs, slices | verbs],
    }


def _dns_role_binding() -> Manifest:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "system:coredns"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
    }


def _dns_deployment(image: str) -> Manifest:
    labels = {"k8s-app": "kube-dns"}
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",  # asks the machine's name servers, not itself
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_dns_container(image)],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _dns_container(image: str) -> Manifest:
    """It listens on 5353 so that it needs no capability; the Service maps port 53."""
    return {
        "name": "coredns",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 5353, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "failureThreshold": 5},
        "resources": {"requests": {"cpu": "50m", "memory": "50Mi"}, "limits": {"memory": "200Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }


def _dns_service(record: ClusterRecord) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": record.networks.dns,
            "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp", "protocol": "TCP"},
            ],
        },
    }


def storage_manifests(folder: ClusterFolder) -> list[Manifest]:
    """A default class and volumes that are folders of this machine, made in advance."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }
    return [storage_class, *(_volume(path) for path in volume_folders(folder))]


def volume_folders(folder: ClusterFolder) -> list[Path]:
    return [folder.volumes / f"volume-{number:02}" for number in range(_VOLUMES)]


def _volume(path: Path) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": path.name},
        "spec": {
            "capacity": {"storage": _VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "hostPath": {"path": str(path), "type": "Directory"},
        },
    }


def make_volume_folders(folder: ClusterFolder) -> None:
    """Open to every user: a hostPath volume knows no fsGroup."""
    for path in volume_folders(folder):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)


def kubectl(folder: ClusterFolder, program: Path, *arguments: str, stdin: str = "") -> str:
    cache = f"--cache-dir={folder.run / 'kubectl'}"  # an earlier cluster's would mislead it
    return run([program, f"--kubeconfig={folder.kubeconfig}", cache, *arguments], stdin=stdin)


def apply(folder: ClusterFolder, program: Path, manifests: list[Manifest]) -> None:
    """Server-side apply, which writes nothing where nothing differs."""
    arguments = ("apply", "--server-side", "--force-conflicts", "--field-manager=devcluster")
    kubectl(folder, program, *arguments, "-f", "-", stdin=yaml.safe_dump_all(manifests))


def recycle_volumes(folder: ClusterFolder, program: Path) -> None:
    """Empty the volumes whose claim was deleted, and offer them again."""
    listed = json.loads(kubectl(folder, program, "get", "persistentvolumes", "-o", "json"))
    ours = {path.name: path for path in volume_folders(folder)}
    for volume in listed["items"]:
        name, phase = volume["metadata"]["name"], volume.get("status", {}).get("phase")
        if name in ours and phase == "Released":
            empty_folder(ours[name])
            patch = json.dumps({"spec": {"claimRef": None}})
            kubectl(folder, program, "patch", "persistentvolume", name, "--type=merge", "-p", patch)
