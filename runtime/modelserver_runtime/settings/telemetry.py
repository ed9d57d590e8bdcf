"""What the server says about itself: logs, metrics and traces."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field


class MetricsAlias(StrEnum):
    """Names under which metrics appear a second time, for dashboards that know them."""

    HF_SERVER = "HfServer"
    VLLM = "Vllm"


class TelemetrySettings(BaseModel):
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="what is logged"
    )
    log_format: Literal["Auto", "Text", "Json"] = Field(
        "Auto", description="lines for people or for programs; Auto: Json in a container"
    )
    metrics_aliases: tuple[MetricsAlias, ...] = Field(
        (), description="more names for the metrics: HfServer (hf_server_*), Vllm (vllm:*)"
    )
    otlp_endpoint: str = Field(
        "",
        description="base URL of an OpenTelemetry collector, which gets traces by OTLP over HTTP",
    )
