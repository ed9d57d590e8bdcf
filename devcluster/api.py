"""The development cluster for tests: `with api_cluster("unit") as cluster: ...`."""

from devcluster.cluster import Cluster, down, existing, up
from devcluster.cluster import temporary as api_cluster
from devcluster.errors import DevclusterError
from devcluster.record import Mode

__all__ = ["Cluster", "DevclusterError", "Mode", "api_cluster", "down", "existing", "up"]
