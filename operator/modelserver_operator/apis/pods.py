"""`spec.network`, `spec.availability` and `spec.podTemplate`: how and where the pods run."""

import ipaddress
import re
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from modelserver_operator.apis.types import (
    DNS_LABEL,
    LABEL_KEY,
    LIST_ATOMIC,
    MAP_ATOMIC,
    ApiModel,
    LabelValue,
    OptionalName,
    Rule,
    Text,
    list_map,
    unique,
)

LABEL_KEY_LENGTH = 317  # a prefix of 253, a slash, a name of 63

LabelMap = Annotated[dict[str, LabelValue], Field(max_length=32)]
Cidr = Annotated[str, StringConstraints(min_length=1, max_length=49)]


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return "/" in text


class NetworkPolicyMode(StrEnum):
    RESTRICTED = "Restricted"
    OPEN = "Open"
    NONE = "None"


class Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class LabelSelector(ApiModel):
    match_labels: LabelMap = Field(default_factory=dict, json_schema_extra=MAP_ATOMIC)
    """Labels that must all be there; empty selects everything."""


class IpBlock(ApiModel):
    cidr: Cidr
    """Range of addresses, e.g. 10.0.0.0/8 or 2001:db8::/32."""
    except_: Annotated[
        tuple[Cidr, ...], Field(alias="except", max_length=16, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Ranges inside it that are left out."""

    rules = (
        Rule(
            cel="isCIDR(self.cidr) && (!has(self.except) || self.except.all(one, isCIDR(one)))",
            holds=lambda block: all(_is_cidr(one) for one in (block.cidr, *block.except_)),
            message="cidr and except must be address ranges such as 10.0.0.0/8 or 2001:db8::/32",
        ),
    )


class NetworkPeer(ApiModel):
    namespace_selector: LabelSelector | None = None
    """Namespaces by their labels; `{}` means all; absent means the ModelServer's own."""
    pod_selector: LabelSelector | None = None
    """Pods by their labels; absent means all of the namespaces."""
    ip_block: IpBlock | None = None
    """Addresses, for what is not a pod."""

    rules = (
        Rule(
            cel=(
                "has(self.ipBlock) ? !has(self.namespaceSelector) && !has(self.podSelector)"
                " : has(self.namespaceSelector) || has(self.podSelector)"
            ),
            holds=lambda peer: (
                (peer.ip_block is not None)
                != (peer.namespace_selector is not None or peer.pod_selector is not None)
            ),
            message=(
                "a peer must have either ipBlock, or one or both of namespaceSelector and"
                " podSelector"
            ),
        ),
    )


class NetworkPort(ApiModel):
    port: Annotated[int, Field(ge=1, le=65535)]
    """Number of the port."""
    protocol: Protocol = Protocol.TCP
    """Protocol of the port."""


class EgressPeer(ApiModel):
    to: NetworkPeer
    """Who may be reached."""
    ports: Annotated[
        tuple[NetworkPort, ...], Field(max_length=16, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """At which ports; empty means all."""


class Network(ApiModel):
    policy: NetworkPolicyMode = NetworkPolicyMode.RESTRICTED
    """`Restricted`: only `ingressFrom` (and the operator and the monitoring) reach the pods, and
    the pods reach DNS, `egressTo`, and artefact sources while they fetch. `Open`: a policy that
    allows everybody in at the serving port and everything out, for namespaces that deny by
    default. `None`: no NetworkPolicy."""
    ingress_from: Annotated[
        tuple[NetworkPeer, ...], Field(max_length=32, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Who may send requests, under policy Restricted; empty means every pod of the same
    namespace."""
    egress_to: Annotated[
        tuple[EgressPeer, ...], Field(max_length=32, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """What the pods may reach besides DNS, under policy Restricted."""


class Budget(StrEnum):
    AUTO = "Auto"
    NONE = "None"


class Spread(StrEnum):
    ZONE = "Zone"
    NODE = "Node"
    NONE = "None"


class Availability(ApiModel):
    pdb: Budget = Budget.AUTO
    """`Auto`: with two replicas or more, a PodDisruptionBudget lets drains of nodes take one pod
    at a time. `None`: no budget."""
    spread: Spread = Spread.ZONE
    """Over what the pods are spread where possible: `Zone` (and nodes), `Node`, or `None`."""
    priority_class_name: OptionalName = ""
    """PriorityClass of the pods, and of a router in front of them; it must exist. Empty: what the
    cluster gives to pods without one."""


def _is_label_key(key: str) -> bool:
    return len(key) <= LABEL_KEY_LENGTH and re.search(LABEL_KEY, key) is not None


def _keys_rule(field: str) -> Rule:
    """Keys of maps have no schema of their own."""
    return Rule(
        cel=(
            f"!has(self.{field}) || self.{field}.all(key, key.size() <= {LABEL_KEY_LENGTH}"
            f" && key.matches('{LABEL_KEY}'))"
        ),
        holds=lambda metadata: all(map(_is_label_key, getattr(metadata, field))),
        message=f"keys of {field} must be like team or example.com/team",
        field_path=f".{field}",
    )


class PodTemplateMetadata(ApiModel):
    labels: LabelMap = Field(default_factory=dict)
    """More labels for the pods. Keys of modelserver.dev/ and app.kubernetes.io/ are the
    operator's."""
    annotations: dict[str, Text] = Field(default_factory=dict, max_length=32)
    """More annotations for the pods."""

    rules = (
        _keys_rule("labels"),
        _keys_rule("annotations"),
        Rule(
            cel=(
                "!has(self.labels) || self.labels.all(key, !key.startsWith('modelserver.dev/')"
                " && !key.startsWith('app.kubernetes.io/'))"
            ),
            holds=lambda metadata: not any(map(_is_own_label, metadata.labels)),
            message=(
                "labels of modelserver.dev/ and app.kubernetes.io/ are set by the operator;"
                " use another prefix"
            ),
            field_path=".labels",
        ),
    )


def _is_own_label(key: str) -> bool:
    return key.startswith(("modelserver.dev/", "app.kubernetes.io/"))


class OpenModel(ApiModel):
    """A part of Kubernetes' own pod type: we know some fields, the API server knows them all."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        validate_by_name=True,
        use_attribute_docstrings=True,
    )


class NamedPart(OpenModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Which one: what has the same name is merged, anything else is added."""


class Toleration(OpenModel):
    """As in a pod."""


_Parts = Annotated[
    tuple[NamedPart, ...],
    Field(max_length=32, json_schema_extra=list_map("name")),
    unique("name"),
]


class PodSpecOverlay(OpenModel):
    containers: _Parts = ()
    """Containers by name: `server` is the one that serves, others are added beside it."""
    init_containers: _Parts = ()
    """Init containers by name: `fetch` is the one that fetches, `fetch-model-<name>` those of extra
    models."""
    volumes: _Parts = ()
    """Volumes by name: `model`, `model-<name>` of extra models, `api-keys` and `tmp` are there."""
    node_selector: LabelMap = Field(default_factory=dict, json_schema_extra=MAP_ATOMIC)
    """Labels that a node must have."""
    tolerations: Annotated[
        tuple[Toleration, ...], Field(max_length=32, json_schema_extra=LIST_ATOMIC)
    ] = ()
    """Taints of nodes that the pods accept."""


class PodTemplate(ApiModel):
    metadata: PodTemplateMetadata = PodTemplateMetadata()
    """Labels and annotations of the pods."""
    spec: PodSpecOverlay = PodSpecOverlay()
    """Any fields of a pod's spec, laid over what the operator makes like a strategic merge patch:
    maps are merged, containers, volumes and variables by name, other lists are replaced. What the
    operator needs (the port, its variables, its labels, no ServiceAccount token) stays."""
