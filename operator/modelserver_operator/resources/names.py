"""The name of every child; with names of servers of at most 40 characters all stay below 63."""


def revision_child(server: str, revision: str) -> str:
    """Deployment, Service, ControllerRevision and PodDisruptionBudget of a revision."""
    return f"{server}-{revision}"


def root_service(server: str) -> str:
    return server


def service_account(server: str) -> str:
    return server


def serving_policy(server: str) -> str:
    return server


def fetching_policy(server: str) -> str:
    return f"{server}-fetch"


def resolve_job(server: str, inputs_hash: str) -> str:
    return f"{server}-resolve-{inputs_hash}"


def preflight_job(server: str, inputs_hash: str) -> str:
    return f"{server}-preflight-{inputs_hash}"


def preflight_policy(server: str) -> str:
    return f"{server}.preflight"


def examined_policy(server: str) -> str:
    """Of the model's pods that are asked the golden set."""
    return f"{server}.examined"


def router(server: str) -> str:
    """Deployment, ConfigMap and PodDisruptionBudget of the built-in router."""
    return f"{server}-router"


def router_policy(server: str) -> str:
    """With a dot, which no ModelServer's name has: one named `chat-router` has a policy, too."""
    return f"{server}.router"


def routed_policy(server: str) -> str:
    """Of the model's pods, which the router asks."""
    return f"{server}.routed"


def virtual_service(server: str) -> str:
    return server


def destination_rule(server: str, revision: str) -> str:
    return revision_child(server, revision)


def gateway_route(server: str) -> str:
    """The HTTPRoute of requests that come through a Gateway."""
    return server


def mesh_route(server: str) -> str:
    """The HTTPRoute of requests inside a mesh."""
    return f"{server}.mesh"


def autoscaler(server: str, revision: str) -> str:
    """HorizontalPodAutoscaler or ScaledObject of a revision."""
    return revision_child(server, revision)


def autoscaler_of_keda(server: str, revision: str) -> str:
    """The HorizontalPodAutoscaler that KEDA makes for a ScaledObject; never one of ours."""
    return f"keda-hpa-{autoscaler(server, revision)}"


def holder_slice(service: str, family: str) -> str:
    """EndpointSlice of the gateway's addresses; with a dot, which no generated name has."""
    return f"{service}.holder-{family.lower()}"
