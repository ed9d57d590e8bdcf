"""`spec.traffic`: how requests come to the revisions."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.model import DataType, ModelOverlay
from modelserver_operator.apis.rollout import CheckName, SomePercent
from modelserver_operator.apis.runtime import EnvironmentVariable, Resources
from modelserver_operator.apis.types import (
    LIST_ATOMIC,
    LIST_SET,
    ApiModel,
    Image,
    Rule,
    list_map,
    unique,
)

_HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$"
_GATEWAY = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_HEADER = r"^[A-Za-z0-9][-A-Za-z0-9_]*$"
Host = Annotated[str, StringConstraints(max_length=253, pattern=_HOST)]
GatewayName = Annotated[str, StringConstraints(max_length=317, pattern=_GATEWAY)]
HeaderName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_HEADER)]
RevisionName = Annotated[str, StringConstraints(max_length=8, pattern=r"^[0-9a-f]{8}$")]


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


class RuntimeOverlay(ApiModel):
    """Settings of `spec.runtime` that differ; what is absent stays as it is."""

    image: Annotated[Image, StringConstraints(min_length=1)] | None = None
    """Image that serves it."""
    dtype: DataType | None = None
    """Type in which its weights are kept; see `spec.runtime.dtype`."""
    max_model_length: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Longest prompt and answer together, in tokens; 0 takes the model's own limit."""
    env: Annotated[
        tuple[EnvironmentVariable, ...],
        Field(max_length=16, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """More environment variables; one with a name that is there already is replaced."""
    args: (
        Annotated[
            tuple[Annotated[str, StringConstraints(max_length=1024)], ...],
            Field(max_length=16, json_schema_extra=LIST_ATOMIC),
        ]
        | None
    ) = None
    """Arguments, instead of those that are there."""


class Variant(ApiModel):
    """Settings of its own, laid over those of the revision that serves."""

    model: ModelOverlay | None = None
    """Another model, or another commit of it."""
    runtime: RuntimeOverlay | None = None
    """Other settings of what serves it."""
    resources: Resources | None = None
    """What each of its pods needs, in the place of `spec.resources`."""

    rules = (
        Rule(
            cel="has(self.model) || has(self.runtime) || has(self.resources)",
            holds=lambda variant: (
                variant.model is not None
                or variant.runtime is not None
                or variant.resources is not None
            ),
            message="a variant must differ from spec by model, runtime or resources; name one",
        ),
    )


class Experiment(ApiModel):
    name: CheckName
    """How metrics and status call it."""
    match: ExperimentMatch
    """Which requests take part. Of several experiments that match, the first counts."""
    revision: RevisionName | None = None
    """The revision that answers them: one that is kept in the history."""
    variant: Variant | None = None
    """What answers them: the revision that serves, with these settings laid over its own. That is a
    revision too, so the same settings are the same pods."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many pods it gets. Of experiments with the same revision the largest number counts;
    while the revision serves or is rolled out, it has the pods of that."""

    rules = (
        Rule(
            cel="has(self.revision) != has(self.variant)",
            holds=lambda one: (one.revision is None) != (one.variant is None),
            message="an experiment must have exactly one of revision and variant",
        ),
    )


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
    experiments: Annotated[
        tuple[Experiment, ...],
        Field(max_length=8, json_schema_extra=list_map("name")),
        unique("name"),
    ] = ()
    """Requests that another revision answers, for as long as this is here. They are neither
    weighed nor counted by a rollout."""
