"""The gateway of a cluster, `modelserver-runtime gateway --cluster`; nobody else reads these."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ClusterGatewaySettings(BaseModel):
    cluster: bool = Field(
        default=False, description="serve all ModelServers of the cluster, and not one route"
    )
    kubernetes_url: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] = Field(
        "https://kubernetes.default.svc", description="address of the Kubernetes API"
    )
    kubernetes_token_file: Path | None = Field(
        _ACCOUNT / "token", description="file with the account's token; read again for each request"
    )
    kubernetes_ca_file: Path | None = Field(
        _ACCOUNT / "ca.crt", description="file with the certificates that the API's is checked with"
    )
    gateway_service: Annotated[str, Field(pattern=r"^([a-z0-9.-]+/[a-z0-9.-]+)?$")] = Field(
        "",
        description="NAMESPACE/NAME of the gateway's own Service: without Redis, each of its ready "
        "pods allows its part of a limit; empty: the whole",
    )
    client_requests_per_minute: Annotated[int, Field(ge=0)] = Field(
        100,
        description="for each client: its key, or its address if it has none; a limit of keys or "
        "addresses that is set takes its place; 0: none",
    )
    body_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="a request's body has come by then; else 408"
    )
    head_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        20, description="a request's head has come by then; else 408, and the connection ends"
    )
    hold_release_per_pod: Annotated[int, Field(ge=1)] = Field(
        32, description="held requests that are with each pod at the same time, once there are pods"
    )
    prefix_affinity: bool = Field(
        default=True,
        description="the pod that had a conversation gets its next turn; off: always the one with "
        "the least to do, as for models that cache no prefixes",
    )
    page: bool = Field(
        default=True,
        description="show the models, a playground and the keys at /, to browsers",
    )
