"""`spec.traffic`: how requests come to the revisions."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from modelserver_operator.apis.rollout import CheckName, SomePercent
from modelserver_operator.apis.types import LIST_SET, ApiModel, Rule, list_map, unique

_HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$"
_GATEWAY = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_HEADER = r"^[A-Za-z0-9][-A-Za-z0-9_]*$"
Host = Annotated[str, StringConstraints(max_length=253, pattern=_HOST)]
GatewayName = Annotated[str, StringConstraints(max_length=317, pattern=_GATEWAY)]
HeaderName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_HEADER)]
RevisionName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]


class Router(StrEnum):
    AUTO = "Auto"
    GATEWAY = "Gateway"
    ISTIO = "Istio"
    GATEWAY_API = "GatewayAPI"
    NONE = "None"


class Sticky(ApiModel):
    cookie: HeaderName | None = None
    """A cookie of this name keeps a client at the revision that answered first."""
    header: HeaderName | None = None
    """Requests with the same value of this header go to the same revision."""
    user_key: bool = False
    """Requests with the same API key go to the same revision."""
    seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 3_600
    """How long the cookie holds."""

    rules = (
        Rule(
            cel=(
                "(has(self.cookie) ? 1 : 0) + (has(self.header) ? 1 : 0)"
                " + (has(self.userKey) && self.userKey ? 1 : 0) == 1"
            ),
            holds=lambda sticky: (
                sum((sticky.cookie is not None, sticky.header is not None, sticky.user_key)) == 1
            ),
            message="sticky must have exactly one of cookie, header and userKey",
        ),
    )


class ValueMatch(ApiModel):
    name: HeaderName
    """Its name."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Its whole value."""


class ExperimentMatch(ApiModel):
    header: ValueMatch | None = None
    """Requests with this header."""
    cookie: ValueMatch | None = None
    """Requests with this cookie."""
    user_key_percent: SomePercent | None = None
    """So many of the users, told apart by their API keys or, without one, by their addresses; the
    same user always gets the same."""

    rules = (
        Rule(
            cel=(
                "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0)"
                " + (has(self.userKeyPercent) ? 1 : 0) == 1"
            ),
            holds=lambda match: (
                sum(one is not None for one in (match.header, match.cookie, match.user_key_percent))
                == 1
            ),
            message="match must have exactly one of header, cookie and userKeyPercent",
        ),
    )


class Experiment(ApiModel):
    name: CheckName
    """How metrics and status call it."""
    match: ExperimentMatch
    """Which requests take part."""
    revision: RevisionName
    """The revision that answers them: one that is kept in the history. Its pods are started."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many pods it gets."""


class Traffic(ApiModel):
    router: Router = Router.AUTO
    """What divides the traffic. `Gateway` is the router of this project, in pods of its own beside
    the model's. `Istio` writes a VirtualService and DestinationRules, `GatewayAPI` HTTPRoutes.
    `None` publishes a Service of each revision and divides nothing. `Auto` is `Istio` or
    `GatewayAPI` where `gateways` are given and the cluster has it, otherwise `Gateway`."""
    hosts: Annotated[
        tuple[Host, ...], Field(max_length=16, json_schema_extra=LIST_SET), unique()
    ] = ()
    """Names from outside, for Istio and the Gateway API."""
    gateways: Annotated[
        tuple[GatewayName, ...], Field(max_length=8, json_schema_extra=LIST_SET), unique()
    ] = ()
    """Gateways of Istio or of the Gateway API through which `hosts` are reached, as
    `namespace/name`."""
    sticky: Sticky | None = None
    """What keeps a client at one revision while there are two."""
    experiments: SkipJsonSchema[  # not in the CRD before their revisions get pods
        Annotated[
            tuple[Experiment, ...],
            Field(max_length=8, json_schema_extra=list_map("name")),
            unique("name"),
        ]
    ] = ()
    """Requests that another revision answers, for as long as this is here."""
