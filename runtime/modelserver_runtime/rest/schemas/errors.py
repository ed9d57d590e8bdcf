"""The one shape of every error."""

from modelserver_runtime.rest.schemas.fields import Answer


class ErrorDetail(Answer):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Answer):
    error: ErrorDetail


class ErrorV2(Answer):
    """The shape of the Open Inference Protocol."""

    error: str
