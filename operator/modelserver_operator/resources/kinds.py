"""The kinds of child objects, in the order in which they are applied."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Where objects of a kind live in the API."""

    api_version: str
    kind: str
    plural: str

    @property
    def path(self) -> str:
        """API prefix: `/api/v1` for the core group, `/apis/<group>/<version>` for others."""
        prefix = "/apis" if "/" in self.api_version else "/api"
        return f"{prefix}/{self.api_version}"


MODEL_SERVER = Kind(
    api_version="modelserver.dev/v1alpha1", kind="ModelServer", plural="modelservers"
)
POD = Kind(api_version="v1", kind="Pod", plural="pods")
SERVICE_ACCOUNT = Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts")
SERVICE = Kind(api_version="v1", kind="Service", plural="services")
DEPLOYMENT = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
CONTROLLER_REVISION = Kind(
    api_version="apps/v1", kind="ControllerRevision", plural="controllerrevisions"
)
JOB = Kind(api_version="batch/v1", kind="Job", plural="jobs")
NETWORK_POLICY = Kind(
    api_version="networking.k8s.io/v1", kind="NetworkPolicy", plural="networkpolicies"
)
POD_DISRUPTION_BUDGET = Kind(
    api_version="policy/v1", kind="PodDisruptionBudget", plural="poddisruptionbudgets"
)

# Policies before the pods they confine; pins (ControllerRevision) before what is built from them.
CHILD_KINDS = (
    CONTROLLER_REVISION,
    SERVICE_ACCOUNT,
    NETWORK_POLICY,
    JOB,
    DEPLOYMENT,
    SERVICE,
    POD_DISRUPTION_BUDGET,
)
