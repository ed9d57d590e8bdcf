"""Which answers are kept, how many, and for how long."""

from typing import Annotated

from pydantic import BaseModel, Field


class CacheSettings(BaseModel):
    cache_max_entries: Annotated[int, Field(ge=0)] = Field(
        1000, description="answers that are kept in memory to be given again; 0: none"
    )
    cache_max_bytes: Annotated[int, Field(ge=0)] = Field(
        64 << 20, description="memory that kept answers may take"
    )
    cache_ttl_seconds: Annotated[float, Field(gt=0)] = Field(
        3600, description="how long an answer is kept"
    )
    cache_shared: bool = Field(
        default=False, description="callers with different keys are given each other's answers"
    )
