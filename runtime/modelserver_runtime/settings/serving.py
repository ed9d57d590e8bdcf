"""How the process listens, starts and ends."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field


class ServingSettings(BaseModel):
    config: Path | None = Field(None, description="a YAML file with settings, by these names")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8080, description="port to listen on; 0: any free one"
    )
    request_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        120, description="longest time for one request, waiting included; then 504"
    )
    drain_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="after SIGTERM: longest time for the requests that are being answered"
    )
    lame_duck_seconds: Annotated[float, Field(ge=0)] = Field(
        5,
        description="after SIGTERM: time in which new requests are still answered",
    )
    load_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        1800, description="longest time for loading and warm-up; then exit code 49"
    )
    step_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        300, description="a step of the model that takes longer makes /livez fail"
    )
    max_list_items: Annotated[int, Field(ge=1)] = Field(
        2048, description="inputs or prompts of one request; beyond it 400"
    )
    max_body_bytes: Annotated[int, Field(ge=1024)] = Field(
        32 << 20, description="size of a request; beyond it 413"
    )
    termination_log: Path = Field(
        Path("/dev/termination-log"), description="file for the last message, one JSON object"
    )
