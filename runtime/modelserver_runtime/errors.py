"""The runtime's errors.

RuntimeFailure
├── StartupFailure            ends the process; its exit code is in the contract with the operator
│   ├── InvalidConfiguration  2
│   ├── ArtifactAuth          41
│   ├── ArtifactUnreachable   42
│   ├── ArtifactRefused       43
│   ├── ArtifactNotFound      44
│   ├── ArtifactCorrupt       45
│   ├── UnsupportedModel      46
│   ├── DiskFull              47
│   ├── OutOfMemory           48
│   ├── LoadTimeout           49
│   └── RuntimeCrash          50
├── InvalidRoute              of the router: the document is refused, and the one before it holds
├── UpstreamFailure           of the router: a revision gives no whole answer
│   ├── UpstreamUnreachable   nothing was sent
│   ├── UpstreamBroken        its answer ended too early, or is none
│   └── UpstreamSilent        it takes too long
├── ClusterFailure            of the gateway: the Kubernetes API does not do what is asked of it
│   ├── ApiRefused            the account lacks a right
│   ├── ApiNotFound           there is no such object, or no such kind
│   ├── ApiConflict           somebody else wrote in between
│   ├── ApiExpired            the version to go on from is too old
│   └── ApiUnavailable        it may answer later
└── RequestFailure            answers one request; rest/errors maps it to a status
    ├── NotAuthenticated      the client must send another key
    ├── NotPermitted          the client must ask for more rights
    ├── RateLimited           the client may try again later: it has used its share
    ├── KeysUnavailable       the client may try again later: keys cannot be looked up or kept
    ├── InvalidRequest        the client must change the request
    ├── ContextLengthExceeded the client must send less
    ├── ModelNotFound         the client must name another model
    ├── ModelUnavailable      the client may try again later: known, and not in memory
    ├── ResourceNotFound      the client must name another file, batch or response
    ├── Conflict              the state does not allow it
    ├── TaskNotSupported      the client must use another route
    ├── RequestTooLarge       the client must send less
    ├── Overloaded            the client may try again later
    ├── DeadlineUnreachable   the client may try again later, or give more time
    ├── QueueTimeout          the client may try again later: nothing was begun
    ├── CircuitOpen           the client may try again later: the model fails again and again
    ├── NotReady              the client may try again later
    ├── NotCached             the client wanted only a stored answer
    ├── RequestTimeout        the client may try again, with less
    └── BackendFailure        the server's fault
"""

from enum import StrEnum
from typing import ClassVar


class RuntimeFailure(Exception):
    """Base of everything the runtime raises on purpose."""


class StartupFailure(RuntimeFailure):
    """The process cannot serve; `exit_code` and `code` are read by the operator.

    `hint` says what a person can do about it.
    """

    exit_code: ClassVar[int] = 50

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        return type(self).__name__


class InvalidConfiguration(StartupFailure):
    exit_code = 2


class ArtifactAuth(StartupFailure):
    exit_code = 41


class ArtifactUnreachable(StartupFailure):
    exit_code = 42


class ArtifactRefused(StartupFailure):
    exit_code = 43


class ArtifactNotFound(StartupFailure):
    exit_code = 44


class ArtifactCorrupt(StartupFailure):
    exit_code = 45


class UnsupportedModel(StartupFailure):
    exit_code = 46


class DiskFull(StartupFailure):
    exit_code = 47


class OutOfMemory(StartupFailure):
    exit_code = 48


class LoadTimeout(StartupFailure):
    exit_code = 49


class RuntimeCrash(StartupFailure):
    exit_code = 50


class InvalidRoute(RuntimeFailure): ...


class UpstreamFailure(RuntimeFailure): ...


class UpstreamUnreachable(UpstreamFailure): ...


class UpstreamBroken(UpstreamFailure): ...


class UpstreamSilent(UpstreamFailure): ...


class ClusterFailure(RuntimeFailure): ...


class ApiRefused(ClusterFailure): ...


class ApiNotFound(ClusterFailure): ...


class ApiConflict(ClusterFailure): ...


class ApiExpired(ClusterFailure): ...


class ApiUnavailable(ClusterFailure): ...


# The official client of OpenAI would wait up to two minutes; people wait for it, so half of that.
_LONGEST_WAIT_SECONDS = 60.0


class RequestFailure(RuntimeFailure):
    """One request cannot be answered; the message is shown to the client.

    `param` is the request field at fault, as a path, or None; `retry_after_seconds` is when trying
    again makes sense, where that is known. `should_retry` overrules what clients do by themselves.
    """

    should_retry: bool | None = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class NotAuthenticated(RequestFailure): ...


class NotPermitted(RequestFailure): ...


class RateLimited(RequestFailure): ...


class KeysUnavailable(RequestFailure): ...


class InvalidRequest(RequestFailure): ...


class ContextLengthExceeded(RequestFailure): ...


class ModelNotFound(RequestFailure): ...


class ModelUnavailable(RequestFailure): ...


class ResourceNotFound(RequestFailure): ...


class Conflict(RequestFailure): ...


class TaskNotSupported(RequestFailure): ...


class RequestTooLarge(RequestFailure): ...


class UnsupportedMedia(RequestFailure): ...


class Overloaded(RequestFailure): ...


class DeadlineUnreachable(RequestFailure): ...


class QueueTimeout(RequestFailure):
    should_retry = True


class CircuitOpen(RequestFailure):
    """Clients wait as long as they are told before they retry, if that is not too long."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.should_retry = retry_after_seconds <= _LONGEST_WAIT_SECONDS


class NotReady(RequestFailure): ...


class NotCached(RequestFailure): ...


class RequestTimeout(RequestFailure): ...


class FailureClass(StrEnum):
    """The ways in which a model fails; each has a circuit of its own."""

    OUT_OF_MEMORY = "out_of_memory"
    INVALID_OUTPUT = "invalid_output"
    STEP_TIMEOUT = "step_timeout"
    BACKEND_ERROR = "backend_error"
    GRAMMAR = "grammar"


class BackendFailure(RequestFailure):
    """`is_of_input`: the model is well, as it has shown since; only this input is beyond it."""

    def __init__(
        self,
        message: str,
        *,
        failure_class: FailureClass = FailureClass.BACKEND_ERROR,
        is_of_input: bool = False,
    ) -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.is_of_input = is_of_input
