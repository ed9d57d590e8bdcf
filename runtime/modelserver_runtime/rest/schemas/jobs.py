"""Bodies of /v1/files and /v1/batches."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelserver_runtime.tasks.fields import Answer, RequestBody

_MOST_METADATA = 16


class FileObject(Answer):
    """`filename` is the client's; nothing on disk is called so."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileList(Answer):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Answer):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


type Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=_MOST_METADATA),
]


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(frozen=True)

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=3600, le=2592000)]


class BatchRequest(RequestBody):
    input_file_id: Annotated[str, Field(min_length=1)]
    endpoint: Literal[
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/rerank",
        "/predict",
        "/generate",
    ]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchError(Answer):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(Answer):
    object: Literal["list"] = "list"
    data: list[BatchError]


class BatchCounts(Answer):
    total: int
    completed: int
    failed: int


class BatchObject(Answer):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: BatchCounts
    metadata: dict[str, Any] | None


class BatchList(Answer):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
