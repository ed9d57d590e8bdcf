"""The operator's configuration: read once from the environment, frozen from then on."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Self, cast

from modelserver_operator.errors import InvalidConfiguration

PREFIX = "MODELSERVER_OPERATOR_"

type Setting = str | int | float | bool | tuple[str, ...] | Mapping[str, str]

_IMAGE = re.compile(r"[^\s]+")
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
# What Kubernetes adds to pods for a Service named modelserver-operator.
_SERVICE_LINK = re.compile(PREFIX + r"(SERVICE_(HOST|PORT)|PORT)(_.*)?")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LOG_FORMATS = ("json", "text")


def _own_labels() -> Mapping[str, str]:
    return MappingProxyType({"app.kubernetes.io/name": "modelserver-operator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """Each field is the environment variable MODELSERVER_OPERATOR_<FIELD>."""

    runtime_image: str  # serves and fetches where a ModelServer names no image; pinned per revision
    namespaces: tuple[str, ...] = ()  # where ModelServers are watched; empty: the whole cluster
    hub_endpoint: str = "https://huggingface.co"
    allow_file_models: bool = False  # file:// means a path inside the image: for development
    settle_seconds: float = 10  # how long old pods stay after the Service has moved to new ones
    history_limit: int = 5  # ControllerRevisions kept per ModelServer, beside those in use
    namespace: str = (
        "modelserver-system"  # the operator's own; the Lease and NetworkPolicies use it
    )
    pod_labels: Mapping[str, str] = field(
        default_factory=_own_labels
    )  # its own, for NetworkPolicies
    cluster_domain: str = "cluster.local"  # ends the full names of Services, in routes of Istio
    prometheus_url: str = ""  # asked the queries of spec.rollout.analysis; empty: there are none
    monitoring_namespace: str = "monitoring"  # may scrape model pods; empty: nobody else may
    identity: str = ""  # of this replica in the Lease; empty: the host's name
    concurrency: int = 8  # reconciliations at the same time
    resync_seconds: float = 600
    lease_name: str = "modelserver-operator"
    lease_duration_seconds: float = 15  # 15/10/2 s are client-go's defaults
    lease_renew_seconds: float = 10
    lease_retry_seconds: float = 2
    metrics_port: int = 9090
    probe_port: int = 8081
    log_level: str = "INFO"
    log_format: str = "json"

    def __post_init__(self) -> None:
        for name, (holds, expected) in _CHECKS.items():
            value = getattr(self, name)
            if not holds(value):
                raise InvalidConfiguration(_complaint(name, value, expected))
        if not self.lease_duration_seconds > self.lease_renew_seconds > self.lease_retry_seconds:
            raise InvalidConfiguration(
                f"{PREFIX}LEASE_DURATION_SECONDS must be greater than LEASE_RENEW_SECONDS, and that"
                " greater than LEASE_RETRY_SECONDS; 15, 10 and 2 are usual"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Empty means the default; unknown MODELSERVER_OPERATOR_* variables are refused."""
        environment = os.environ if environment is None else environment
        own = {k.removeprefix(PREFIX).lower(): v for k, v in environment.items() if _is_ours(k)}
        known = {one.name: cast("type", one.type) for one in fields(cls)}
        if unknown := sorted(own.keys() - known.keys()):
            names = ", ".join(PREFIX + name.upper() for name in unknown)
            raise InvalidConfiguration(f"unknown setting {names}; remove it or correct its name")
        given = {name: _parsed(name, text, known[name]) for name, text in own.items() if text}
        if "runtime_image" not in given:
            raise InvalidConfiguration(
                f"{PREFIX}RUNTIME_IMAGE is not set; give the runtime's image, best with its digest"
            )
        return cls(**given)  # type: ignore[arg-type]  # each value was parsed by its field's type


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(name)


def _complaint(name: str, value: object, expected: str) -> str:
    return f"{PREFIX}{name.upper()} is {value!r}; it must be {expected}"


def _pairs(text: str) -> Mapping[str, str]:
    pairs = [item.strip().split("=", 1) for item in text.split(",") if item.strip()]
    return MappingProxyType(dict(pairs))


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


_PARSERS: Mapping[object, tuple[Callable[[str], Setting], str]] = {
    str: (str, "text"),
    int: (int, "a whole number"),
    float: (float, "a number of seconds"),
    bool: (_boolean, "true or false"),
    tuple[str, ...]: (
        lambda text: tuple(name.strip() for name in text.split(",") if name.strip()),
        "names separated by commas",
    ),
    Mapping[str, str]: (_pairs, "key=value pairs separated by commas"),
}


def _parsed(name: str, text: str, kind: object) -> Setting:
    parse, expected = _PARSERS[kind]
    try:
        return parse(text)
    except (ValueError, KeyError) as failure:
        raise InvalidConfiguration(_complaint(name, text, expected)) from failure


def _is_image(text: str) -> bool:
    return bool(_IMAGE.fullmatch(text))


def _is_url(text: str) -> bool:
    return bool(_URL.fullmatch(text))


def _is_domain(text: str) -> bool:
    return bool(_DOMAIN.fullmatch(text))


def _port(value: int) -> bool:
    return 0 < value < 65536  # noqa: PLR2004  the range of TCP ports


_CHECKS: Mapping[str, tuple[Callable[..., bool], str]] = {
    "runtime_image": (_is_image, "an image reference"),
    "hub_endpoint": (_is_url, "an http:// or https:// URL"),
    "prometheus_url": (lambda url: not url or _is_url(url), "an http:// or https:// URL"),
    "cluster_domain": (_is_domain, "a DNS name such as cluster.local"),
    "settle_seconds": (lambda value: value >= 1, "1 second or more"),
    "history_limit": (lambda value: value >= 0, "0 or more"),
    "concurrency": (lambda value: value > 0, "1 or more"),
    "resync_seconds": (lambda value: value > 0, "more than 0 seconds"),
    "metrics_port": (_port, "a port from 1 to 65535"),
    "probe_port": (_port, "a port from 1 to 65535"),
    "log_level": (lambda value: value in _LOG_LEVELS, " or ".join(_LOG_LEVELS)),
    "log_format": (lambda value: value in _LOG_FORMATS, " or ".join(_LOG_FORMATS)),
}
