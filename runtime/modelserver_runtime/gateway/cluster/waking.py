"""Wakes a server: its Deployment's scale goes from 0 to 1, and never anywhere else."""

from modelserver_runtime.errors import ApiConflict
from modelserver_runtime.gateway.cluster.client import ApiClient
from modelserver_runtime.gateway.cluster.directory import ServedModel

# Whoever came between wrote for one of a handful of reasons; each time it is looked at again.
_TRIES = 5
# By which the operator knows a wake-up.
_MANAGER = "modelserver-gateway"


class Waker:
    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def wake(self, model: ServedModel) -> bool:
        """False if it was awake already. Raises ClusterFailure."""
        target = (
            f"/apis/apps/v1/namespaces/{model.key.namespace}/deployments/{model.deployment}/scale"
        )
        for _ in range(_TRIES - 1):
            try:
                return await self._try(target)
            except ApiConflict:
                continue
        return await self._try(target)

    async def _try(self, target: str) -> bool:
        scale = await self._client.get(target)
        # A zero is left out of what the API server sends.
        if (scale.get("spec") or {}).get("replicas", 0) > 0:
            return False
        version = scale["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": 1}}
        await self._client.patch(f"{target}?fieldManager={_MANAGER}", body)
        return True
