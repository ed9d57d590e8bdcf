"""The codes of a diagnosis; users and alerts rely on them. docs/diagnosis.md explains each."""

from collections.abc import Mapping

from modelserver_operator.status.explained import Explained


class Code(Explained):
    """One word for what is wrong; also the reason of conditions and Events."""

    NAME_CONFLICT = (
        "NameConflict",
        "An object that the server needs exists under that name and belongs to somebody else.",
    )
    FILE_MODELS_NOT_ALLOWED = (
        "FileModelsNotAllowed",
        "`spec.model.uri` is a `file://`, which this operator does not allow.",
    )
    INVALID_RESOURCE = (
        "InvalidResource",
        "The stored ModelServer breaks a rule of this operator, e.g. after a downgrade.",
    )
    INVALID_POD_TEMPLATE = (
        "InvalidPodTemplate",
        "The API server refuses the pods that `spec.podTemplate` asks for.",
    )
    CHILD_REFUSED = (
        "ChildRefused",
        "The API server or an admission policy refuses an object of the server.",
    )
    PERMISSION_MISSING = "PermissionMissing", "The operator itself lacks a right."
    QUOTA_EXCEEDED = "QuotaExceeded", "A ResourceQuota of the namespace leaves no room."
    POD_REFUSED = (
        "PodRefused",
        "Pods are refused: by Pod Security, a LimitRange, an admission webhook or the node.",
    )
    INSUFFICIENT_RESOURCE = "InsufficientResource", "No node has enough of a resource."
    UNSCHEDULABLE = (
        "Unschedulable",
        "No node is allowed to run the pod: selectors, affinity or taints.",
    )
    VOLUME_MISSING = (
        "VolumeMissing",
        "A volume, such as the claim with the model, does not exist or cannot be used.",
    )
    IMAGE_PULL = "ImagePull", "An image cannot be pulled."
    SECRET_MISSING = "SecretMissing", "A Secret that the pod needs, or a key in it, does not exist."
    CONFIG_MAP_MISSING = (
        "ConfigMapMissing",
        "A ConfigMap that the pod needs, or a key in it, does not exist.",
    )
    INVALID_CONFIGURATION = (
        "InvalidConfiguration",
        "The runtime does not accept an argument or a variable.",
    )
    ARTIFACT_AUTH = (
        "ArtifactAuth",
        "The hub does not let us read the model: 401, 403 or a gated repository.",
    )
    ARTIFACT_UNREACHABLE = "ArtifactUnreachable", "The hub does not answer, or answers 5xx."
    ARTIFACT_REFUSED = (
        "ArtifactRefused",
        "The model could run code when it is loaded, and that is not allowed.",
    )
    ARTIFACT_NOT_FOUND = (
        "ArtifactNotFound",
        "The repository, revision, folder or file does not exist.",
    )
    ARTIFACT_CORRUPT = "ArtifactCorrupt", "A file of the model is damaged."
    UNSUPPORTED_MODEL = "UnsupportedModel", "The runtime cannot serve this architecture or task."
    DISK_FULL = "DiskFull", "There is no space left for the model's files."
    OUT_OF_MEMORY = (
        "OutOfMemory",
        "The model does not fit into the memory that the container may use.",
    )
    LOAD_TIMEOUT = "LoadTimeout", "Loading and warming up took longer than allowed."
    RUNTIME_CRASH = "RuntimeCrash", "The container ended for another reason."


# Exit codes of the runtime's commands (docs/architecture.md); 137 is SIGKILL, by the kernel when
# memory runs out.
EXIT_CODES: Mapping[int, Code] = {
    2: Code.INVALID_CONFIGURATION,
    41: Code.ARTIFACT_AUTH,
    42: Code.ARTIFACT_UNREACHABLE,
    43: Code.ARTIFACT_REFUSED,
    44: Code.ARTIFACT_NOT_FOUND,
    45: Code.ARTIFACT_CORRUPT,
    46: Code.UNSUPPORTED_MODEL,
    47: Code.DISK_FULL,
    48: Code.OUT_OF_MEMORY,
    49: Code.LOAD_TIMEOUT,
    50: Code.RUNTIME_CRASH,
}

# They concern the server's objects, whatever its pods do.
OF_OBJECTS = frozenset(
    {
        Code.NAME_CONFLICT,
        Code.INVALID_POD_TEMPLATE,
        Code.CHILD_REFUSED,
        Code.PERMISSION_MISSING,
    }
)
