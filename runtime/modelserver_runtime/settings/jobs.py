"""What is kept for clients: files, batches and stored answers, for as long as the process lives."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field


class JobsSettings(BaseModel):
    files_directory: Path | None = Field(
        None,
        description="directory for uploaded files and results; default: that for temporary files",
    )
    max_files_bytes: Annotated[int, Field(ge=1024)] = Field(
        256 << 20, description="size of all files together; beyond it 413"
    )
    files_ttl_seconds: Annotated[int, Field(ge=60)] = Field(
        7 * 86400, description="after this time a file is deleted"
    )
    max_batch_lines: Annotated[int, Field(ge=1)] = Field(
        50_000, description="requests of one batch"
    )
    batch_concurrency: Annotated[int, Field(ge=1)] = Field(
        4, description="requests of all batches that are in the model at the same time"
    )
    max_stored_responses: Annotated[int, Field(ge=1)] = Field(
        1000, description="responses and asynchronous predictions that are kept; the oldest go"
    )
    stored_responses_ttl_seconds: Annotated[int, Field(ge=1)] = Field(
        86400, description="after this time a stored response is forgotten"
    )
