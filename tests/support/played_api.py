"""An API server with what a test puts there, for a gateway that runs as a process."""

import json


class PlayedApi:
    """An ASGI application; its watches stay open and silent."""

    def __init__(self):
        self.status = 200
        self.lists = {"modelservers": [], "endpointslices": []}
        self.gateways = []  # slices of the gateways' own Service

    async def __call__(self, scope, receive, send):
        kind = scope["path"].rpartition("/")[2]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.status == 200 and b"watch=true" in scope["query_string"]:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        document = {"metadata": {"resourceVersion": "7"}, "message": "modelservers is forbidden"}
        of_gateways = "/namespaces/" in scope["path"]
        items = self.gateways if of_gateways else self.lists[kind]
        body = json.dumps(document | {"items": items}).encode()
        await send({"type": "http.response.body", "body": body})


def has(api, pod, holder_port=None):
    """From now on one model, with this pod."""
    metadata = {"namespace": "models", "name": "chat"}
    labels = {
        "modelserver.dev/server": "chat",
        "kubernetes.io/service-name": "chat",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    status = {"servingRevision": "abc", "scaling": {"holderPort": holder_port}}
    api.lists["modelservers"] = [{"metadata": metadata, "spec": {}, "status": status}]
    api.lists["endpointslices"] = [
        {
            "metadata": metadata | {"labels": labels},
            "ports": [{"name": "http", "port": pod.port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }
    ]


def has_gateways(api, count):
    """From now on so many are ready."""
    labels = {"kubernetes.io/service-name": "gateway"}
    api.gateways = [
        {
            "metadata": {"namespace": "system", "name": "gateway", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": [f"127.0.0.{number}"], "conditions": {"ready": True}}
                for number in range(1, count + 1)
            ],
        }
    ]
