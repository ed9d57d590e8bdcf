"""Deployments that no operator looks after, for the real metrics-server and the real KEDA."""

import json

from e2e.rollout_play import PROGRAM
from support.waiting import wait_until

PATIENCE = 480  # seconds of any one thing: an HPA looks every 15 s, and samples come when they come
CONTAINER = "server"
PROGRAM_MAP = "scaled-program"
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def a_program():
    """The stand-in of a model, as a ConfigMap."""
    data = {PROGRAM.name: PROGRAM.read_text()}
    names = {"name": PROGRAM_MAP}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": names, "data": data}


def a_deployment(name, image, *, env=None, labels=None):
    """One pod of the stand-in, with an idle container beside it whose cpu nobody asks for."""
    own = {"app": name, **(labels or {})}
    server = _container(
        *(CONTAINER, image, ["python3", f"/program/{PROGRAM.name}"]),
        env=[{"name": key, "value": value} for key, value in (env or {}).items()],
        ports=[{"name": "http", "containerPort": 8080}],
        readinessProbe={"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        volumeMounts=[{"name": "program", "mountPath": "/program"}],
        resources={"requests": {"cpu": "50m", "memory": "64Mi"}},
    )
    idle = _container("idle", image, ["sleep", "infinity"])
    pod = {
        "containers": [server, idle],
        "volumes": [{"name": "program", "configMap": {"name": PROGRAM_MAP}}],
        "terminationGracePeriodSeconds": 1,
    }
    template = {"metadata": {"labels": own}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def _container(name, image, command, **more):
    return {
        "name": name,
        "image": image,
        "command": command,
        "securityContext": _RESTRICTED,
        **more,
    }


def a_service(name):
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def an_hpa(name, *, most, percent):
    """By the cpu of one container; what it needs less, it gives up at once."""
    target = {"type": "Utilization", "averageUtilization": percent}
    resource = {"name": "cpu", "container": CONTAINER, "target": target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicas": 1,
            "maxReplicas": most,
            "metrics": [{"type": "ContainerResource", "containerResource": resource}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


def a_scaled_object(name, *, most, url, query, threshold):
    trigger = {
        "type": "prometheus",
        "metadata": {"serverAddress": url, "query": query, "threshold": threshold},
    }
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": _target(name),
            "minReplicaCount": 1,
            "maxReplicaCount": most,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": [trigger],
        },
    }


def _target(name):
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


class Workbench:
    """Objects of one namespace."""

    def __init__(self, kubectl, namespace):
        self.kubectl = kubectl
        self.namespace = namespace

    def run(self, *arguments, **options):
        return self.kubectl.run("-n", self.namespace, *arguments, **options)

    def get(self, *arguments):
        return self.kubectl.get("-n", self.namespace, *arguments)

    def apply(self, *manifests):
        for manifest in manifests:
            self.run("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))

    def delete(self, kind, name):
        self.run("delete", kind, name, "--ignore-not-found", "--wait")

    def url(self, service):
        return f"http://{self.get('service', service)['spec']['clusterIP']}"

    def ready_pods(self, name):
        deployment = self.get("deployment", name) or {}
        return deployment.get("status", {}).get("readyReplicas", 0)

    def until_pods(self, name, number):
        """Ready ones, and no more asked for."""

        def seen():
            deployment = self.get("deployment", name)
            asked = deployment["spec"]["replicas"]
            return asked == number == deployment["status"].get("readyReplicas", 0)

        try:
            wait_until(seen, timeout=PATIENCE, what=f"{number} pods of {name}", interval=1)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.told()}") from failure

    def told(self):
        """What its autoscaler says, and the pods there are."""
        described = self.run("describe", "hpa")
        return f"{described}\n{self.run('get', 'pods,deployments', '-o', 'wide')}"
