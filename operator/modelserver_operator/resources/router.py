"""The built-in router: pods of their own between the root Service and the revisions' Services."""

from typing import Any

from modelserver_operator.apis.runtime import Engine
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.resources import labels, names
from modelserver_operator.resources.containers import (
    PORT,
    PORT_NAME,
    PRE_STOP_SECONDS,
    RESTRICTED,
)
from modelserver_operator.resources.kinds import DEPLOYMENT
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.overlay import overlaid
from modelserver_operator.resources.pod import GRACE_SLACK_SECONDS, POD_SECURITY, job_overlay
from modelserver_operator.resources.revision import Revision
from modelserver_operator.resources.route_config import ROUTE_FILE
from modelserver_operator.resources.serving import Environment, variable
from modelserver_operator.resources.volumes import TEMPORARY_DIRECTORY, TEMPORARY_VOLUME

ROUTER = "router"
ADMIN_PORT = 9090
ADMIN_PORT_NAME = "admin"
ROUTE_DIRECTORY = "/etc/modelserver/route"
ROUTE_VOLUME = "route"

REPLICAS = 2  # one may go with its node

# It moves bytes and holds at most some dozen MiB of waiting requests; Python itself takes 100 MiB.
ROUTER_RESOURCES = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}

# It starts in a second or two; longer than this is a failure.
PROGRESS_DEADLINE_SECONDS = 300

_TOPOLOGIES = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")

type Container = dict[str, Any]


def make_router(server: ModelServer, image: str) -> dict[str, Any]:
    """The Deployment. The route is no part of it, so that another weight restarts nothing."""
    selector = labels.router_selector(server.name)
    spec = {
        "replicas": REPLICAS,
        "revisionHistoryLimit": 1,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "selector": {"matchLabels": selector},
        "template": _template(server, image),
    }
    return make_child(server, DEPLOYMENT, names.router(server.name), {"spec": spec})


def router_image(
    server: ModelServer, target: Revision, default: str, observed: dict[str, Any] | None
) -> str:
    """The target's runtime, or the operator's `default` where the target has another program.

    A router that runs as we once made it keeps its image: neither another target nor an upgrade of
    the operator restarts it. One that must be written anyway gets the newest.
    """
    newest = default if target.served.engine is Engine.CUSTOM else target.server_image
    kept = _image_of(observed) if observed else ""
    if not observed or not kept:
        return newest
    return kept if _is_as_made(observed, make_router(server, kept)) else newest


def _image_of(deployment: dict[str, Any]) -> str:
    containers = deployment["spec"]["template"]["spec"].get("containers") or []
    return next((str(one["image"]) for one in containers if one["name"] == ROUTER), "")


def _is_as_made(observed: dict[str, Any], made: dict[str, Any]) -> bool:
    """Whether we wrote just this: an image that somebody else has put in has another hash."""
    annotations = observed["metadata"].get("annotations") or {}
    written = annotations.get(labels.DESIRED_HASH)
    return bool(written == made["metadata"]["annotations"][labels.DESIRED_HASH])


def _template(server: ModelServer, image: str) -> dict[str, Any]:
    """Where the user's pods may run the router may, too; its containers are ours alone."""
    pod_labels = {**labels.child_labels(server.name), labels.ROLE: labels.ROUTER}
    ours = {"metadata": {"labels": pod_labels}, "spec": _pod_spec(server, image)}
    protected = {
        "metadata": {"labels": pod_labels},
        "spec": {"automountServiceAccountToken": False},
    }
    return overlaid(overlaid(ours, job_overlay(server.spec.pod_template)), protected)


def _pod_spec(server: ModelServer, image: str) -> dict[str, Any]:
    drain = server.spec.runtime.drain_seconds
    spec = {
        "serviceAccountName": names.service_account(server.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": POD_SECURITY,
        # All requests for those pods go through it: it must not be the first to give way.
        "priorityClassName": server.spec.availability.priority_class_name,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + drain + GRACE_SLACK_SECONDS,
        "topologySpreadConstraints": [_spread(server.name, key) for key in _TOPOLOGIES],
        "containers": [_container(image, _environment(server))],
        "volumes": [
            {"name": ROUTE_VOLUME, "configMap": {"name": names.router(server.name)}},
            {"name": TEMPORARY_VOLUME, "emptyDir": {}},
        ],
    }
    return {key: value for key, value in spec.items() if value != ""}


def _spread(server_name: str, topology: str) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels.router_selector(server_name)},
    }


def _environment(server: ModelServer) -> Environment:
    variables = {
        "HOME": TEMPORARY_DIRECTORY,
        "MODELSERVER_HOST": "0.0.0.0",  # noqa: S104  the pod's own network
        "MODELSERVER_PORT": str(PORT),
        "MODELSERVER_DRAIN_SECONDS": str(server.spec.runtime.drain_seconds),
    }
    return [variable(name, value) for name, value in variables.items()]


def _container(image: str, environment: Environment) -> Container:
    return {
        "name": ROUTER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["gateway", "--route", f"{ROUTE_DIRECTORY}/{ROUTE_FILE}"],
        "env": environment,
        "ports": [
            {"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"},
            {"name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": ROUTER_RESOURCES,
        "readinessProbe": _probe("/readyz", period=2, timeout=5, failures=2),
        "livenessProbe": _probe("/livez", period=10, timeout=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        # The whole directory: with a subPath, the kubelet would never show another route.
        "volumeMounts": [
            {"name": ROUTE_VOLUME, "mountPath": ROUTE_DIRECTORY, "readOnly": True},
            {"name": TEMPORARY_VOLUME, "mountPath": TEMPORARY_DIRECTORY},
        ],
        "securityContext": dict(RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _probe(path: str, *, period: int, timeout: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": ADMIN_PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
        "successThreshold": 1,
    }
