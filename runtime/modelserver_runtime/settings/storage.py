"""Where replicas keep what they share."""

from typing import Annotated

from pydantic import BaseModel, Field


class StorageSettings(BaseModel):
    redis_url: str = Field(
        "",
        repr=False,  # it may hold a password
        description="redis://HOST:6379/0, for limits, keys and answers that replicas share",
    )
    redis_prefix: str = Field(
        "modelserver:", description="begins the name of everything that is kept in Redis"
    )
    # Redis in the same cluster answers within a millisecond. What waits longer than this would
    # be slower with Redis than without it, and a request asks at most a few times.
    redis_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        0.25, description="longest time for one answer of Redis; then it is done without"
    )
