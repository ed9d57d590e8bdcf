"""What the gateway knows of the cluster: a snapshot of its models, kept fresh by watches."""

from modelserver_runtime.gateway.cluster.directory import (
    Address,
    Directory,
    HoldBounds,
    ServedModel,
    ServerKey,
)

__all__ = ["Address", "Directory", "HoldBounds", "ServedModel", "ServerKey"]
