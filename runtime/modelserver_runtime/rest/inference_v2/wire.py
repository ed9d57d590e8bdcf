"""Requests and answers of the protocol on the wire: JSON, and bytes of tensors behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import Response
from pydantic import ValidationError

from modelserver_runtime.errors import InvalidRequest, UnsupportedMedia
from modelserver_runtime.rest.context import JSON
from modelserver_runtime.rest.errors import invalid_request
from modelserver_runtime.rest.inference_v2.schemas import InferRequest, RequestTensor
from modelserver_runtime.rest.inference_v2.tensors import (
    Tensor,
    as_bytes,
    as_json,
    tensor_of_bytes,
    tensor_of_json,
)

HEADER_LENGTH = "inference-header-content-length"
_SIZE = "binary_data_size"
_WANTED = "binary_data"
_ALL_WANTED = "binary_data_output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """A request: `wanted` are the outputs by name, and whether as bytes; None for all."""

    id: str | None
    model_name: str | None
    model_version: str | None
    inputs: Sequence[Tensor]
    parameters: Mapping[str, Any]
    wanted: Mapping[str, bool] | None
    all_binary: bool


async def read_inference(request: Request) -> Inference:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("The body is compressed; send it as it is")
    content = await request.body()
    length = _header_length(request, len(content))
    body = _parsed(content[:length])
    inputs = _tensors(body.inputs, memoryview(content)[length:])
    parameters = dict(body.parameters)
    all_binary = _flag(parameters.pop(_ALL_WANTED, False), f"parameters.{_ALL_WANTED}")
    return Inference(
        id=body.id,
        model_name=body.model_name,
        model_version=body.model_version,
        inputs=inputs,
        parameters=parameters,
        wanted=_wanted(body, all_binary=all_binary),
        all_binary=all_binary,
    )


def _header_length(request: Request, total: int) -> int:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return total
    if not (text.isascii() and text.isdigit()) or int(text) > total:
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {text!r}; it must be the length of the JSON, and "
            f"the body has {total} bytes"
        )
    return int(text)


def _parsed(content: bytes) -> InferRequest:
    try:
        return InferRequest.model_validate_json(content)
    except ValidationError as error:
        problems = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        raise invalid_request(problems) from error


def _tensors(parts: Sequence[RequestTensor], rest: memoryview) -> list[Tensor]:
    tensors = []
    position = 0
    for index, part in enumerate(parts):
        place = f"inputs.{index}"
        size = part.parameters.get(_SIZE)
        if (size is None) == (part.data is None):
            raise InvalidRequest(f"{place} needs either data or parameters.{_SIZE}", param=place)
        if part.data is not None:
            made = tensor_of_json(part.name, part.datatype, part.shape, part.data, place=place)
        else:
            content = _bytes(rest, position, size, place)
            position += len(content)
            made = tensor_of_bytes(part.name, part.datatype, part.shape, content, place=place)
        tensors.append(made)
    if position != len(rest):
        raise InvalidRequest(
            f"{len(rest)} bytes follow the JSON, and the inputs describe {position} of them"
        )
    return tensors


def _bytes(rest: memoryview, position: int, size: Any, place: str) -> bytes:
    if type(size) is not int or not 0 <= size <= len(rest) - position:
        raise InvalidRequest(
            f"{place}.parameters.{_SIZE} is {size!r}; {len(rest) - position} bytes are left behind "
            "the JSON (its length is the header Inference-Header-Content-Length)",
            param=f"{place}.parameters.{_SIZE}",
        )
    return bytes(rest[position : position + size])


def _wanted(body: InferRequest, *, all_binary: bool) -> Mapping[str, bool] | None:
    if body.outputs is None:
        return None
    return {
        output.name: _flag(
            output.parameters.get(_WANTED, all_binary), f"outputs.{index}.parameters.{_WANTED}"
        )
        for index, output in enumerate(body.outputs)
    }


def _flag(value: Any, place: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{place} is {value!r}; it must be true or false", param=place)
    return value


def write_inference(
    inference: Inference, outputs: Sequence[Tensor], head: Mapping[str, Any]
) -> Response:
    """The outputs that were wanted, each as JSON or behind it."""
    known = {tensor.name: tensor for tensor in outputs}
    wanted = inference.wanted
    if wanted is None:
        wanted = dict.fromkeys(known, inference.all_binary)
    binary: list[bytes] = []
    described = [_described(known[name], binary, as_binary) for name, as_binary in wanted.items()]
    content = orjson.dumps({**head, "outputs": described})
    if not binary:
        return Response(content, media_type=JSON)
    return Response(
        b"".join((content, *binary)),
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(content))},
    )


def _described(tensor: Tensor, binary: list[bytes], as_binary: bool) -> dict[str, Any]:  # noqa: FBT001  one call, in a comprehension
    described: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
    }
    if as_binary:
        content = as_bytes(tensor)
        binary.append(content)
        described["parameters"] = {_SIZE: len(content)}
    else:
        described["data"] = as_json(tensor)
    return described
