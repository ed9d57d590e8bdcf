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
