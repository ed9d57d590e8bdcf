"""Envoy Gateway in a cluster with a node: its definitions, controller and GatewayClass.

Installed as its own chart does it, but for two things: the controller may do everything, since
the cluster is for tests, and its images are the one that is made here.
"""

from typing import Any

import yaml

from devcluster import addons
from devcluster.cluster import Cluster
from devcluster.console import step
from devcluster.definitions import BundleName, install_definitions
from devcluster.errors import ClusterStateError
from devcluster.gateway_image import PROGRAM, gateway_image
from devcluster.image_load import Target, load_images
from devcluster.record import Mode

NAMESPACE = "envoy-gateway-system"
GATEWAY_CLASS = "envoy"
_CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
_USER = 65532
_READY_SECONDS = 180
# Those that its chart names: the proxies ask for their configuration at the first of them.
_PORTS = {"grpc": 18000, "ratelimit": 18001, "wasm": 18002, "metrics": 19001}
_HEALTH_PORT = 8081

type Manifest = dict[str, Any]


def install_gateway(cluster: Cluster) -> None:
    """Returns when the controller has taken its GatewayClass; Gateways can be made of that."""
    if cluster.record.mode is not Mode.NODE:
        raise ClusterStateError(
            f"the cluster {cluster.name} has no node for the pods of Envoy Gateway; take one with a"
            f" node: python -m devcluster up --name {cluster.name}"
        )
    image = gateway_image()
    load_images([image], target=Target.NODE, cluster=cluster.name)
    install_definitions(cluster, (BundleName.GATEWAY_API, BundleName.ENVOY_GATEWAY))
    addons.apply(cluster.folder, cluster.kubectl, gateway_manifests(image))
    with step("waiting for Envoy Gateway"):
        _wait(cluster, "deployment/envoy-gateway", "Available")
        _wait(cluster, f"gatewayclass/{GATEWAY_CLASS}", "Accepted")


def _wait(cluster: Cluster, name: str, condition: str) -> None:
    within = (f"--for=condition={condition}", f"--timeout={_READY_SECONDS}s")
    addons.kubectl(cluster.folder, cluster.kubectl, "-n", NAMESPACE, "wait", name, *within)


def gateway_manifests(image: str) -> list[Manifest]:
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _named("v1", "ServiceAccount", PROGRAM),
        _role_binding(),
        _named("v1", "ConfigMap", PROGRAM, data={"envoy-gateway.yaml": _configuration(image)}),
        _certificates(image),
        _deployment(image),
        _service(),
        _proxy(image),
        _gateway_class(),
    ]


def _named(api_version: str, kind: str, name: str, **content: object) -> Manifest:
    names = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": names, **content}


def _role_binding() -> Manifest:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": PROGRAM},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": PROGRAM, "namespace": NAMESPACE}],
    }


def _configuration(image: str) -> str:
    """The container beside each proxy, which ends it in order, runs the controller's program."""
    document = {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyGateway",
        "gateway": {"controllerName": _CONTROLLER},
        "provider": {"type": "Kubernetes", "kubernetes": {"shutdownManager": {"image": image}}},
    }
    return yaml.safe_dump(document)


def _container(image: str, *arguments: str, **more: object) -> Manifest:
    return {
        "name": PROGRAM,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(arguments),
        "env": [{"name": "ENVOY_GATEWAY_NAMESPACE", "value": NAMESPACE}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        **more,
    }


def _pod(container: Manifest, **more: object) -> Manifest:
    return {
        "serviceAccountName": PROGRAM,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **more,
    }


def _certificates(image: str) -> Manifest:
    """Makes those by which proxies and controller know each other, unless there are some."""
    container = _container(image, "certgen", "--disable-topology-injector")
    template = {"spec": _pod(container, restartPolicy="OnFailure")}
    name = f"certificates-{image.rpartition(':')[2]}"  # a Job's pods cannot be changed
    return _named("batch/v1", "Job", name, spec={"template": template})


def _deployment(image: str) -> Manifest:
    labels = {"app": PROGRAM}
    health = {"path": "/readyz", "port": _HEALTH_PORT}
    mounts = {"config": "/config", "certs": "/certs", "cache": "/var/lib/eg/wasm"}
    container = _container(
        *(image, "server", "--config-path=/config/envoy-gateway.yaml"),
        ports=[{"name": name, "containerPort": port} for name, port in _PORTS.items()],
        readinessProbe={"httpGet": health, "periodSeconds": 2},
        volumeMounts=[{"name": name, "mountPath": path} for name, path in mounts.items()],
        resources={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    )
    volumes = [
        {"name": "config", "configMap": {"name": PROGRAM}},
        {"name": "certs", "secret": {"secretName": PROGRAM}},
        {"name": "cache", "emptyDir": {}},
    ]
    template = {"metadata": {"labels": labels}, "spec": _pod(container, volumes=volumes)}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return _named("apps/v1", "Deployment", PROGRAM, spec=spec)


def _service() -> Manifest:
    ports = [{"name": name, "port": port, "targetPort": port} for name, port in _PORTS.items()]
    return _named("v1", "Service", PROGRAM, spec={"selector": {"app": PROGRAM}, "ports": ports})


def _proxy(image: str) -> Manifest:
    """How the proxies of a Gateway are run; reached by a ClusterIP, as all of this cluster."""
    kubernetes = {
        "envoyDeployment": {"container": {"image": image}},
        "envoyService": {"type": "ClusterIP"},
    }
    spec = {"provider": {"type": "Kubernetes", "kubernetes": kubernetes}}
    return _named("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy", GATEWAY_CLASS, spec=spec)


def _gateway_class() -> Manifest:
    parameters = {
        "group": "gateway.envoyproxy.io",
        "kind": "EnvoyProxy",
        "name": GATEWAY_CLASS,
        "namespace": NAMESPACE,
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": GATEWAY_CLASS},
        "spec": {"controllerName": _CONTROLLER, "parametersRef": parameters},
    }
