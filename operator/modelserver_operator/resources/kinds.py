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
CONFIG_MAP = Kind(api_version="v1", kind="ConfigMap", plural="configmaps")
DESTINATION_RULE = Kind(
    api_version="networking.istio.io/v1", kind="DestinationRule", plural="destinationrules"
)
VIRTUAL_SERVICE = Kind(
    api_version="networking.istio.io/v1", kind="VirtualService", plural="virtualservices"
)
HTTP_ROUTE = Kind(api_version="gateway.networking.k8s.io/v1", kind="HTTPRoute", plural="httproutes")
# Of one revision each: what scales it.
HORIZONTAL_POD_AUTOSCALER = Kind(
    api_version="autoscaling/v2",
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
)
SCALED_OBJECT = Kind(api_version="keda.sh/v1alpha1", kind="ScaledObject", plural="scaledobjects")
ENDPOINT_SLICE = Kind(
    api_version="discovery.k8s.io/v1", kind="EndpointSlice", plural="endpointslices"
)

# Policies before the pods they confine; pins (ControllerRevision) before what is built from them;
# what is mounted before the pods that mount it.
CHILD_KINDS = (
    CONTROLLER_REVISION,
    SERVICE_ACCOUNT,
    NETWORK_POLICY,
    CONFIG_MAP,
    JOB,
    DEPLOYMENT,
    SERVICE,
    POD_DISRUPTION_BUDGET,
    HORIZONTAL_POD_AUTOSCALER,
    ENDPOINT_SLICE,
)

# Kinds that a cluster need not have. They come after the Services and Deployments that they are
# about, and a rule about a destination before the route that names it.
OPTIONAL_KINDS = (DESTINATION_RULE, VIRTUAL_SERVICE, HTTP_ROUTE, SCALED_OBJECT)
