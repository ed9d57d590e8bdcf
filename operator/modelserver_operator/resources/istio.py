"""The route as Istio reads it: one VirtualService, and a DestinationRule for each revision.

Destinations are the revisions' own Services and not subsets of one Service: every proxy knows such
a host long before a route names it, and who is outside the mesh never meets a revision that is
still being tried.
"""

from collections.abc import Iterator
from typing import Any

from modelserver_operator.apis.model import Task
from modelserver_operator.apis.traffic import ExperimentMatch
from modelserver_operator.apis.v1alpha1 import ModelServer
from modelserver_operator.config import OperatorConfig
from modelserver_operator.resources import names
from modelserver_operator.resources.kinds import DESTINATION_RULE, VIRTUAL_SERVICE
from modelserver_operator.resources.matching import cookie_pattern
from modelserver_operator.resources.metadata import make_child
from modelserver_operator.resources.route import Route, RoutedExperiment
from modelserver_operator.resources.service import SERVICE_PORT

MESH = "mesh"

# What these answer is made anew each time, and at length: sent twice, it costs twice. Auto may be
# one of them.
_GENERATING = {
    Task.AUTO,
    Task.TEXT_GENERATION,
    Task.SUMMARIZATION,
    Task.TRANSLATION,
    Task.TEXT_TO_TEXT_GENERATION,
    Task.IMAGE_TEXT_TO_TEXT,
    Task.SPEECH_RECOGNITION,
    Task.TEXT_TO_AUDIO,
    Task.ANY_TO_ANY,
}

# Said in any case: Istio's own default is two retries, also of answers that a model has begun.
_NO_RETRIES = {"attempts": 0}
# Only of what has certainly not reached a model.
_RETRY_UNSENT = {"attempts": 1, "retryOn": "connect-failure,refused-stream"}

# Long answers differ in length by orders of magnitude: who has least to do gets the next. A pod
# that joins others gets its share within a minute. One that fails time and again is left out for
# half a minute, but never so many that few pods become none: a revision that is bad as a whole
# must be seen by the gates, and not be hidden.
_TRAFFIC_POLICY = {
    "loadBalancer": {
        "simple": "LEAST_REQUEST",
        "warmup": {"duration": "60s", "minimumPercent": 10, "aggression": 1},
    },
    "connectionPool": {"http": {"idleTimeout": "300s"}, "tcp": {"connectTimeout": "2s"}},
    "outlierDetection": {
        "consecutive5xxErrors": 10,
        "interval": "10s",
        "baseEjectionTime": "30s",
        "maxEjectionPercent": 20,
        "minHealthPercent": 50,
    },
}

type Part = dict[str, Any]


def make_virtual_service(
    server: ModelServer, route: Route, config: OperatorConfig
) -> dict[str, Any]:
    """Holds and stickiness are not in it: Istio chooses a revision for each request anew."""
    writer = _Writer(server, route, config)
    spec = {
        "hosts": [writer.host(names.root_service(server.name)), *route.hosts],
        "gateways": [MESH, *route.gateways],
        "http": list(writer.rules()),
    }
    return make_child(server, VIRTUAL_SERVICE, names.virtual_service(server.name), {"spec": spec})


def make_destination_rule(
    server: ModelServer, revision: str, config: OperatorConfig
) -> dict[str, Any]:
    host = host_of(names.revision_child(server.name, revision), server.namespace, config)
    body = {"spec": {"host": host, "trafficPolicy": _TRAFFIC_POLICY}}
    name = names.destination_rule(server.name, revision)
    return make_child(server, DESTINATION_RULE, name, body, revision=revision)


def host_of(service: str, namespace: str, config: OperatorConfig) -> str:
    """In full: a short name means another host to a proxy of another namespace."""
    return f"{service}.{namespace}.svc.{config.cluster_domain}"


class _Writer:
    """The rules of one VirtualService; the first that matches a request decides."""

    def __init__(self, server: ModelServer, route: Route, config: OperatorConfig) -> None:
        self._server = server
        self._route = route
        self._config = config

    def rules(self) -> Iterator[Part]:
        for experiment in self._route.experiments:
            yield self._experiment(experiment)
        yield self._main()

    def host(self, service: str) -> str:
        return host_of(service, self._server.namespace, self._config)

    def _experiment(self, experiment: RoutedExperiment) -> Part:
        return {
            "name": f"experiment-{experiment.name}",
            "match": [{"headers": _headers(experiment.match)}],
            "route": [{"destination": self._destination(experiment.revision), "weight": 100}],
            **self._limits(),
        }

    def _main(self) -> Part:
        route = [
            {"destination": self._destination(revision), "weight": weight}
            for revision, weight in self._route.shares.items()
        ]
        return {"name": "main", "route": route, **self._mirrors(), **self._limits()}

    def _mirrors(self) -> Part:
        """Without a percentage Istio would copy every request."""
        if (mirror := self._route.mirror) is None:
            return {}
        copied = {
            "destination": self._destination(mirror.revision),
            "percentage": {"value": mirror.percent},
        }
        return {"mirrors": [copied]}

    def _destination(self, revision: str) -> Part:
        host = self.host(names.revision_child(self._server.name, revision))
        return {"host": host, "port": {"number": SERVICE_PORT}}

    def _limits(self) -> Part:
        is_generating = self._server.spec.model.task in _GENERATING
        return {
            "timeout": f"{self._route.timeout_seconds}s",
            "retries": dict(_NO_RETRIES if is_generating else _RETRY_UNSENT),
        }


def _headers(match: ExperimentMatch) -> Part:
    """Istio wants the names of headers in lower case."""
    if match.header is not None:
        return {match.header.name.lower(): {"exact": match.header.value}}
    if match.cookie is not None:
        return {"cookie": {"regex": cookie_pattern(match.cookie)}}
    raise ValueError("Istio cannot tell users apart: `router_of` refuses this before")
