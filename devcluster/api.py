"""The development cluster for tests: `with api_cluster("unit") as cluster: ...`."""

from devcluster.cluster import Cluster, down, existing, up
from devcluster.cluster import temporary as api_cluster
from devcluster.definitions import BundleName, install_definitions
from devcluster.errors import DevclusterError
from devcluster.record import Mode

__all__ = [
    "BundleName",
    "Cluster",
    "DevclusterError",
    "Mode",
    "api_cluster",
    "down",
    "existing",
    "install_definitions",
    "up",
]
