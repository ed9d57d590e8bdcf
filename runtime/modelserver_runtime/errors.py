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
└── RequestFailure            answers one request; rest/errors maps it to a status
    ├── InvalidRequest        the client must change the request
    ├── ContextLengthExceeded the client must send less
    ├── ModelNotFound         the client must name another model
    ├── TaskNotSupported      the client must use another route
    ├── RequestTooLarge       the client must send less
    ├── Overloaded            the client may try again later
    ├── NotReady              the client may try again later
    ├── RequestTimeout        the client may try again, with less
    └── BackendFailure        the server's fault
"""

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


class RequestFailure(RuntimeFailure):
    """One request cannot be answered; the message is shown to the client.

    `param` is the request field at fault, as a path, or None; `retry_after_seconds` is when trying
    again makes sense, where that is known.
    """

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class InvalidRequest(RequestFailure): ...


class ContextLengthExceeded(RequestFailure): ...


class ModelNotFound(RequestFailure): ...


class TaskNotSupported(RequestFailure): ...


class RequestTooLarge(RequestFailure): ...


class UnsupportedMedia(RequestFailure): ...


class Overloaded(RequestFailure): ...


class NotReady(RequestFailure): ...


class RequestTimeout(RequestFailure): ...


class BackendFailure(RequestFailure): ...
