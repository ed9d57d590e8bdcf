"""Labels and annotations of children, and the selectors made of them."""

MANAGED_BY = "modelserver-operator"

NAME = "app.kubernetes.io/name"
# What manifests/gateway calls it, in the operator's own namespace.
GATEWAY_NAME = "modelserver-gateway"

SERVER = "modelserver.dev/server"
REVISION = "modelserver.dev/revision"
PHASE = "modelserver.dev/phase"
SPEC_HASH = "modelserver.dev/spec-hash"  # of ControllerRevisions: which spec these pins are for
DESIRED_HASH = "modelserver.dev/desired-hash"  # annotation: what the operator wanted when it wrote

ROLE = "modelserver.dev/role"
# Annotation of the router's pods: the route that they shall have. The kubelet looks at a pod that
# has changed at once, and then renews the ConfigMap in it.
ROUTE_VERSION = "modelserver.dev/route-version"

# Annotation of a ModelServer: what to do with its rollout, `<verb>/<revision>/<token>`.
COMMAND = "modelserver.dev/command"

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"  # what `kubectl rollout restart` sets

FETCHING = "fetching"
SERVING = "serving"
ROUTER = "router"
PREFLIGHT = "preflight"


def child_labels(server: str, revision: str = "") -> dict[str, str]:
    labels = {
        "app.kubernetes.io/managed-by": MANAGED_BY,
        NAME: "modelserver",
        "app.kubernetes.io/instance": server,
        SERVER: server,
    }
    return {**labels, REVISION: revision} if revision else labels


def revision_selector(server: str, revision: str) -> dict[str, str]:
    """Selects the pods of one revision; selectors of two revisions never overlap."""
    return {SERVER: server, REVISION: revision}


def router_selector(server: str) -> dict[str, str]:
    """Selects the router's pods, which have no revision."""
    return {SERVER: server, ROLE: ROUTER}


def preflight_selector(server: str) -> dict[str, str]:
    """Selects the pod that asks the golden set, which has no revision."""
    return {SERVER: server, ROLE: PREFLIGHT}


def server_selector(server: str) -> dict[str, str]:
    """Selects all pods of a server, those of the resolving Job and of the router too."""
    return {SERVER: server}
