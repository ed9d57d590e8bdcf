"""Plays who carries out routes: a controller of the Gateway API, and Istio with its analysis.

What it has taken is what clients meet: `stage.traffic.shares` has the weights of the latest version
of a route that was accepted.

    with RouteController(servers, stage.traffic) as controller:
        controller.refusal = "NotAllowedByListeners"     from the next version on
        controller.is_away = True                        nobody looks at routes any more
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from support.kube import path_of
from support.played_traffic import Traffic
from support.repeated import Repeated
from support.servers import Servers

type Manifest = dict[str, Any]

CONTROLLER = "example.com/controller"
_ROUTES = {
    "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes",
    "VirtualService": "/apis/networking.istio.io/v1/namespaces/{}/virtualservices",
}


class RouteController(Repeated):
    """Of one namespace, in a thread of its own. `answered` counts versions that it has judged."""

    name = "controller"

    def __init__(self, servers: Servers, traffic: Traffic) -> None:
        super().__init__()
        self.refusal = ""
        self.is_away = False
        self.answered: dict[str, int] = {}
        self._servers = servers
        self._traffic = traffic

    def look(self) -> None:
        if not self.is_away:
            for route in self._routes():
                self._judge(route)

    def has_judged(self, number: int) -> bool:
        """Whether there are so many routes, each judged as it is now."""
        seen = [(one["metadata"]["uid"], one["metadata"]["generation"]) for one in self._routes()]
        return len(seen) == number and all(self.answered.get(uid) == at for uid, at in seen)

    def _routes(self) -> Iterator[Manifest]:
        for kind, path in _ROUTES.items():
            for route in self._servers.kube.items(path.format(self._servers.namespace)):
                yield route | {"kind": kind, "apiVersion": path.split("/namespaces")[0][6:]}

    def _judge(self, route: Manifest) -> None:
        uid, generation = route["metadata"]["uid"], route["metadata"]["generation"]
        if self.answered.get(uid) == generation and not self._must_reconsider(route):
            return
        status = _of_istio if route["kind"] == "VirtualService" else _of_gateway
        answer = self._servers.kube.ask(
            "PUT", f"{path_of(route)}/status", route | {"status": status(route, self.refusal)}
        )
        if answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            return  # it is judged again as it is now
        assert answer.is_success, answer.text
        self.answered[uid] = generation
        if not self.refusal:
            self._traffic.shares[_server_of(route)] = weights_of(route)

    def _must_reconsider(self, route: Manifest) -> bool:
        return _is_refused(route) and not self.refusal


def _is_refused(route: Manifest) -> bool:
    status = route.get("status") or {}
    conditions = [one for parent in status.get("parents", ()) for one in parent["conditions"]]
    is_false = any(one["status"] == "False" for one in conditions)
    return is_false or bool(status.get("validationMessages"))


def _server_of(route: Manifest) -> str:
    return str(route["metadata"]["labels"]["modelserver.dev/server"])


def weights_of(route: Manifest) -> dict[str, int]:
    """Of the last rule, that of all requests which no other has taken."""
    spec = route["spec"]
    if route["kind"] == "VirtualService":
        shares = [(one["destination"]["host"], one["weight"]) for one in spec["http"][-1]["route"]]
    else:
        shares = [(one["name"], one["weight"]) for one in spec["rules"][-1]["backendRefs"]]
    return {host.partition(".")[0].rpartition("-")[2]: weight for host, weight in shares}


def _of_istio(route: Manifest, refusal: str) -> Manifest:
    """Numbers of 64 bits are text in its objects."""
    said = {"level": "ERROR", "type": {"code": "IST0101", "name": refusal}}
    observed = str(route["metadata"]["generation"])
    return {"observedGeneration": observed, "validationMessages": [said] if refusal else []}


def _of_gateway(route: Manifest, refusal: str) -> Manifest:
    conditions = [
        _condition(route, "Accepted", refusal),
        _condition(route, "ResolvedRefs", ""),
    ]
    answers = [
        {"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions}
        for parent in route["spec"]["parentRefs"]
    ]
    return {"parents": answers}


def _condition(route: Manifest, kind: str, refusal: str) -> Manifest:
    return {
        "type": kind,
        "status": "False" if refusal else "True",
        "reason": refusal or kind,
        "message": "as played",
        "observedGeneration": route["metadata"]["generation"],
        "lastTransitionTime": "2026-11-21T12:00:00Z",
    }
