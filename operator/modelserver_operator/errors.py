"""The operator's errors, by who must act.

    OperatorError
    ├── InvalidConfiguration   whoever installs the operator: a setting is wrong; ends the process
    ├── InvalidResource        the user: a ModelServer that this operator cannot read; no retry
    ├── NotLeading             nobody: another replica leads; what was begun is left to it
    └── ClusterError           an answer of the API server, or none
        ├── Rejected           the user: the object is not accepted (400, 403 of a quota, 422)
        ├── Forbidden          the installer: RBAC lacks a verb, the token is refused (401, 403)
        ├── NotFound           nobody: the object is gone; look again (404)
        ├── Conflict           nobody: the object is not what we saw; look again (409)
        ├── Expired            nobody: the version to continue from is gone; list again (410)
        └── Unavailable        the cluster: no answer, 5xx or 429; try again later

A class says by its place in the tree whether trying again can help.
"""


class OperatorError(Exception):
    """Base of everything the operator raises on purpose."""


class InvalidConfiguration(OperatorError):
    """A setting of the operator itself; the message names the variable and what is allowed."""


class InvalidResource(OperatorError):
    """A stored ModelServer breaks a rule of this operator's types, e.g. one of a newer CRD.

    `field` is the path of the first field at fault, such as `spec.model.uri`.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(f"{field}: {message}")
        self.message = message
        self.field = field


class NotLeading(OperatorError):
    """A write was held back because this replica does not hold the Lease (any more)."""


class ClusterError(OperatorError):
    """`status` is the HTTP status, 0 where there was no answer; `reason` is the API's code."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Rejected(ClusterError):
    pass


class Forbidden(ClusterError):
    pass


class NotFound(ClusterError):
    pass


class Conflict(ClusterError):
    pass


class Expired(ClusterError):
    pass


class Unavailable(ClusterError):
    """`retry_after_seconds` is what the server asked for, if it did."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after_seconds = retry_after_seconds
