"""The parts of `spec.runtime` that a request meets on its way: queue, batch, cache, breaker."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from modelserver_operator.apis.types import ApiModel, DataKey, ObjectName, Rule

# host:port and database; what else a URL of Redis may hold is in the Secret.
_REDIS_URL = r"^$|^rediss?://[^\s/?#]+(/[0-9]{0,3})?$"


class QueueScope(StrEnum):
    MODEL = "Model"
    SERVER = "Server"


class Batching(ApiModel):
    max_batch_size: Annotated[int, Field(ge=1, le=32)] = 32
    """How many inputs are computed together, or how many answers are generated together, for
    each model."""
    max_batch_tokens: Annotated[int, Field(ge=16, le=1_000_000)] = 2048
    """How many tokens one step of the model computes at most; a longer prompt takes several
    steps, so that it does not hold up the answers of others."""
    max_wait_milliseconds: Annotated[int, Field(ge=0, le=100)] = 10
    """How long an input waits for others to be computed with, at most. It waits less when none
    are likely to come."""
    speculative_tokens: Annotated[int, Field(ge=0, le=15)] = 8
    """How many tokens of an answer are guessed and computed with its next one, at most, while few
    answers are generated. It makes no answer another one. 0 turns it off."""


class ResponseCache(ApiModel):
    enabled: bool = True
    """Keep answers that would be the same again, and give one computation to equal requests that
    are in flight."""
    ttl_seconds: Annotated[int, Field(ge=1, le=2_592_000)] = 3600
    """How long an answer is kept, in seconds."""
    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """How many answers each pod keeps in memory; the one used longest ago gives way."""


class Queue(ApiModel):
    max_size: Annotated[int, Field(ge=0, le=100_000)] = 100
    """How many requests may wait for their turn in each pod; one more is refused with 429."""
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 30
    """How long a request may wait for its turn, in seconds."""
    scope: QueueScope = QueueScope.MODEL
    """`Model`: each model has a queue of its own. `Server`: the models of a pod share one."""


class CircuitBreaker(ApiModel):
    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 5
    """After how many failures in a row a model is left alone; requests are then refused with
    503."""
    open_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60
    """How long it is left alone before a request may try it again, in seconds."""


class RedisSecret(ApiModel):
    name: ObjectName
    """Name of a Secret in the ModelServer's namespace."""
    key: DataKey = "url"
    """Key in the Secret's data that holds the URL."""


class Redis(ApiModel):
    url: Annotated[str, StringConstraints(max_length=512, pattern=_REDIS_URL)] = ""
    """Where Redis is, without a password: `redis://host:6379/0`, or `rediss://` for TLS."""
    secret_ref: RedisSecret | None = None
    """The Secret that holds the URL instead, for one with a password. Pods read it when they
    start."""

    rules = (
        Rule(
            cel="(has(self.url) && self.url != '') != has(self.secretRef)",
            holds=lambda redis: (redis.url != "") != (redis.secret_ref is not None),
            message="redis must have exactly one of url and secretRef",
        ),
        Rule(
            cel="!has(self.url) || !self.url.contains('@')",
            holds=lambda redis: "@" not in redis.url,
            message=(
                "redis.url must not hold a user or a password, because everybody who may read the"
                " ModelServer could read it; put the URL into a Secret and name it in secretRef"
            ),
            field_path=".url",
        ),
    )
