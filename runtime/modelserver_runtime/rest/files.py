"""/v1/files: what batches read and write."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, File, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from modelserver_runtime.errors import InvalidRequest, UnsupportedMedia
from modelserver_runtime.rest.context import Context
from modelserver_runtime.rest.jobs.files import StoredFile
from modelserver_runtime.rest.ownership import JobOwner
from modelserver_runtime.rest.paging import page
from modelserver_runtime.rest.schemas.jobs import FileDeleted, FileList, FileObject

router = APIRouter(prefix="/v1/files", tags=["OpenAI"])

_FORM = "multipart/form-data"
_MOST_LISTED = 10_000
_SHORTEST_TTL_SECONDS = 3600


class UploadForm(BaseModel):
    """A file and what it is for; without `expires_after` it stays as long as the server allows."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    file: UploadFile
    purpose: str
    anchor: Annotated[Literal["created_at"] | None, Field(alias="expires_after[anchor]")] = None
    seconds: Annotated[int | None, Field(alias="expires_after[seconds]")] = None


def _require_form(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise UnsupportedMedia(f"Content-Type is {kind or 'missing'}; send the file as {_FORM}")


@router.post("", dependencies=[Depends(_require_form)])
async def upload_file(
    form: Annotated[UploadForm, File()], owner: JobOwner, context: Context
) -> FileObject:
    if form.purpose != "batch":
        raise InvalidRequest(
            f"purpose is {form.purpose}; this server uses files for batches only: send batch",
            param="purpose",
        )
    if form.seconds is not None and form.seconds < _SHORTEST_TTL_SECONDS:
        raise InvalidRequest(
            f"expires_after[seconds] is {form.seconds}; it must be {_SHORTEST_TTL_SECONDS} at "
            "least",
            param="expires_after.seconds",
        )
    content = await form.file.read()
    stored = await context.jobs.files.add(
        owner.tenant, form.file.filename or "file", form.purpose, content, form.seconds
    )
    return _file(stored)


@router.get("")
async def list_files(
    owner: JobOwner,
    context: Context,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = _MOST_LISTED,
    order: Literal["asc", "desc"] = "desc",
) -> FileList:
    files = context.jobs.files.list(owner.tenant)
    chosen = [file for file in files if purpose in {None, file.purpose}]
    shown, has_more = page(chosen if order == "desc" else chosen[::-1], after=after, limit=limit)
    return FileList(
        data=[_file(file) for file in shown],
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=has_more,
    )


@router.get("/{file_id}")
async def retrieve_file(file_id: str, owner: JobOwner, context: Context) -> FileObject:
    return _file(context.jobs.files.find(owner.tenant, file_id))


@router.delete("/{file_id}")
async def delete_file(file_id: str, owner: JobOwner, context: Context) -> FileDeleted:
    context.jobs.files.delete(owner.tenant, file_id)
    return FileDeleted(id=file_id)


@router.get("/{file_id}/content", response_class=Response)
async def retrieve_file_content(file_id: str, owner: JobOwner, context: Context) -> Response:
    files = context.jobs.files
    content = await files.read(files.find(owner.tenant, file_id))
    return Response(content, media_type="application/octet-stream")


def _file(file: StoredFile) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.size,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.filename,
        purpose=file.purpose,
    )
