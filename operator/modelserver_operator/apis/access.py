"""`spec.access`: who may ask the model, and how often."""

from typing import Annotated

from pydantic import Field

from modelserver_operator.apis.types import ApiModel, ObjectName, Rule


class KeysSecret(ApiModel):
    name: ObjectName
    """Name of a Secret in the ModelServer's namespace. Each entry of its data is one key: the key
    itself, its hash, or a record with scopes, models, limits and expiry. The pods see a change
    within about a minute, without a restart."""


class ApiKeys(ApiModel):
    secret_ref: KeysSecret
    """The Secret that holds the keys."""


class RateLimit(ApiModel):
    requests_per_minute: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """Requests in a minute; 0 means any number."""
    tokens_per_minute: Annotated[int, Field(ge=0, le=2_000_000_000)] = 0
    """Tokens in a minute, of prompts and answers together; 0 means any number."""


class Access(ApiModel):
    api_keys: ApiKeys | None = None
    """Only requests with one of these keys are answered, but for probes. Without it everybody is
    whom the network lets through."""
    rate_limit: RateLimit | None = None
    """How much each key may ask for, unless its own record says otherwise; without `apiKeys`, how
    much each address may ask for. The pods count together if they share `runtime.redis`, otherwise
    each for itself."""

    rules = (
        Rule(
            cel="has(self.apiKeys) || has(self.rateLimit)",
            holds=lambda access: access.api_keys is not None or access.rate_limit is not None,
            message="access must have apiKeys, rateLimit or both; remove it for open access",
        ),
    )
