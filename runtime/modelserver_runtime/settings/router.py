"""The router, `modelserver-runtime gateway`; no other command reads these."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field


class RouterSettings(BaseModel):
    route: Path | None = Field(
        None, description="file with the route, one JSON object; it is read again when it changes"
    )
    admin_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        9090, description="port of probes, metrics and status; 0: any free one"
    )
    shadow_max_concurrent: Annotated[int, Field(ge=1)] = Field(
        32, description="copies of requests that are asked at the same time; others are skipped"
    )
    shadow_max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        1 << 20, description="size of a request or an answer; larger ones are not copied"
    )
    shadow_max_bytes: Annotated[int, Field(ge=1024)] = Field(
        64 << 20, description="memory that all copies may take; beyond it they are skipped"
    )
