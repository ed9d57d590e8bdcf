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
    hold_release_per_pod: Annotated[int, Field(ge=1)] = Field(
        32, description="held requests that are with each pod at the same time, once there are pods"
    )
