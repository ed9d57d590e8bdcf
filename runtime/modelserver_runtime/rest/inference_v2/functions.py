"""Each kind of model as a function of tensors: what it takes, what it gives."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from pydantic import ValidationError

from modelserver_runtime.backends.base import EmbeddingItem, GenerationBackend, Tokenizer
from modelserver_runtime.engine.request import Ticket
from modelserver_runtime.errors import InvalidRequest, RequestFailure
from modelserver_runtime.models.served import ServedModel
from modelserver_runtime.rest.collecting import collect
from modelserver_runtime.rest.context import ServerContext
from modelserver_runtime.rest.embeddings import items_of_texts
from modelserver_runtime.rest.errors import invalid_request
from modelserver_runtime.rest.generate import generation_of
from modelserver_runtime.rest.inference_v2.schemas import TensorMetadata
from modelserver_runtime.rest.inference_v2.tensors import (
    BYTES,
    INTEGERS,
    Tensor,
    array,
    texts,
)
from modelserver_runtime.rest.inference_v2.wire import Inference
from modelserver_runtime.rest.schemas.generation import GenerateParameters
from modelserver_runtime.rest.task_inputs import item_of_value, parameters_of
from modelserver_runtime.rest.tasks import task_of
from modelserver_runtime.settings import Task
from modelserver_runtime.tasks import TaskDefinition, find_task
from modelserver_runtime.tasks.common import Label

_TEXT, _TOKENS, _ANY_INPUT = "text", "token_ids", "input"
_MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One inference on its way."""

    context: ServerContext
    model: ServedModel
    ticket: Ticket
    inference: Inference


type Compute = Callable[[Call], Awaitable[Sequence[Tensor]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    compute: Compute

    async def run(self, call: Call) -> Sequence[Tensor]:
        wanted = call.inference.wanted or {}
        names = [output.name for output in self.outputs]
        if unknown := [name for name in wanted if name not in names]:
            raise InvalidRequest(
                f"There is no output {unknown[0]}; the model gives {', '.join(names)}",
                param="outputs",
            )
        return await self.compute(call)


def function_of(task: str) -> Function:
    match task:
        case Task.TEXT_GENERATION:
            return _GENERATION
        case Task.EMBEDDINGS:
            return _EMBEDDINGS
        case _:
            return _task_function(find_task(task))


def _tensor(name: str, datatype: str = BYTES, *shape: int) -> TensorMetadata:
    return TensorMetadata(name=name, datatype=datatype, shape=list(shape or (-1,)))


_PROMPTS = (_tensor(_TEXT), _tensor(_TOKENS, "INT64", -1, -1))


async def _generate(call: Call) -> Sequence[Tensor]:
    """One answer for each prompt; the parameters are those of /generate."""
    engine = call.model.service.generation
    parameters = _generate_parameters(call.inference.parameters)
    prompts = await _prompts(call, engine.backend)
    requests = [generation_of(prompt, parameters, engine.backend) for prompt in prompts]
    answers = await collect(engine, requests, call.ticket)
    return (
        texts(_TEXT, [answer.text for answer in answers]),
        texts("finish_reason", [answer.finish_reason.value for answer in answers]),
        array(
            "generated_tokens",
            "INT32",
            [len(answers)],
            [answer.completion_tokens for answer in answers],
        ),
    )


_GENERATION = Function(
    inputs=_PROMPTS,
    outputs=(_tensor(_TEXT), _tensor("finish_reason"), _tensor("generated_tokens", "INT32")),
    compute=_generate,
)


def _generate_parameters(values: Mapping[str, Any]) -> GenerateParameters:
    try:
        return GenerateParameters.model_validate({"stop": [], **values})
    except ValidationError as error:
        problems = [{**one, "loc": ("body", "parameters", *one["loc"])} for one in error.errors()]
        raise invalid_request(problems) from error


async def _prompts(call: Call, backend: GenerationBackend) -> list[tuple[int, ...]]:
    tensor = _only(call.inference.inputs, (_TEXT, _TOKENS))
    if tensor.name == _TOKENS:
        prompts = _token_lists(tensor)
        _require_known(prompts, backend.limits.vocabulary_size)
    else:
        inputs = _strings(tensor)
        prompts = await call.context.in_thread(_encoded, inputs, backend.tokenizer)
    call.context.require_few(len(prompts), tensor.name)
    return prompts


def _require_known(prompts: Sequence[Sequence[int]], vocabulary_size: int) -> None:
    unknown = [one for prompt in prompts for one in prompt if not 0 <= one < vocabulary_size]
    if unknown:
        raise InvalidRequest(
            f"{_TOKENS} names token {unknown[0]}, and the model has {vocabulary_size}",
            param=_TOKENS,
        )


def _encoded(inputs: Sequence[str], tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    prompts = [tokenizer.encode(text) for text in inputs]
    if not all(prompts):
        raise InvalidRequest(f"{_TEXT} has an element without a token", param=_TEXT)
    return prompts


async def _embed(call: Call) -> Sequence[Tensor]:
    if call.inference.parameters:
        name = min(call.inference.parameters)
        raise InvalidRequest(f"{name} is no parameter of embeddings", param=f"parameters.{name}")
    service = call.model.service.embeddings
    items = await _embedding_items(call)
    tokens = sum(len(item.token_ids) for item in items)
    call.model.telemetry.prompt_tokens.inc(tokens)
    call.ticket.timing.prompt_tokens = tokens
    vectors = _all_good(await service.engine.run(items, call.ticket))
    joined = np.frombuffer(b"".join(vectors), dtype="<f4")
    shape = (len(items), service.backend.limits.dimensions)
    return (array("embedding", "FP32", shape, joined),)


async def _embedding_items(call: Call) -> list[EmbeddingItem]:
    backend = call.model.service.embeddings.backend
    tensor = _only(call.inference.inputs, (_TEXT, _TOKENS))
    entries: list[str | list[int]] = []
    if tensor.name == _TOKENS:
        entries.extend(list(row) for row in _token_lists(tensor))
    else:
        entries.extend(_strings(tensor))
    call.context.require_few(len(entries), tensor.name)
    return await call.context.in_thread(items_of_texts, entries, backend, tensor.name)


_EMBEDDINGS = Function(
    inputs=_PROMPTS, outputs=(_tensor("embedding", "FP32", -1, -1),), compute=_embed
)


def _task_function(task: TaskDefinition | None) -> Function:
    fields = sorted(task.schema.input_fields) if task and task.schema else []
    is_labels = bool(task and task.schema and task.schema.answer == list[Label])
    return Function(
        inputs=[_tensor(name) for name in fields or [_ANY_INPUT]],
        outputs=_LABELS if is_labels else _AS_JSON,
        compute=_label if is_labels else _answer,
    )


_LABELS = (_tensor("label", BYTES, -1, -1), _tensor("score", "FP32", -1, -1))
_AS_JSON = (_tensor("output"),)


async def _label(call: Call) -> Sequence[Tensor]:
    """Labels by falling score, a row for each input."""
    answers = await _answers(call)
    shape = (len(answers), len(answers[0]))
    flat = [label for answer in answers for label in answer]
    return (
        texts("label", [label["label"] for label in flat], shape),
        array("score", "FP32", shape, [label["score"] for label in flat]),
    )


async def _answer(call: Call) -> Sequence[Tensor]:
    """What /predict gives, as JSON: its shape depends on the task and the input."""
    return (texts("output", [orjson.dumps(one).decode() for one in await _answers(call)]),)


async def _answers(call: Call) -> list[Any]:
    service = call.model.service
    engine, task = service.tasks, task_of(service)
    values = _values(call.inference.inputs, task)
    call.context.require_few(len(values), call.inference.inputs[0].name)
    parameters = parameters_of(task, call.inference.parameters)
    items = [item_of_value(task, value, parameters, index) for index, value in enumerate(values)]
    return _all_good(await engine.run(items, call.ticket))


def _all_good(answers: Iterable[Any | RequestFailure]) -> list[Any]:
    """One input that failed fails the request: a tensor has no place for it."""
    found = list(answers)
    for answer in found:
        if isinstance(answer, RequestFailure):
            raise answer
    return found


def _values(tensors: Sequence[Tensor], task: TaskDefinition) -> list[Any]:
    """The inputs of a task: elements of one tensor, or of one tensor for each field."""
    fields = task.schema.input_fields if task.schema else frozenset[str]()
    if not fields:
        tensor = _only(tensors, (_ANY_INPUT, _TEXT))
        return _elements(tensor) if task.takes_files else _strings(tensor)
    columns = {tensor.name: _strings(tensor) for tensor in tensors}
    if unknown := columns.keys() - fields:
        raise InvalidRequest(
            f"There is no input {min(unknown)}; the model takes {', '.join(sorted(fields))}",
            param="inputs",
        )
    if len({len(column) for column in columns.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise InvalidRequest(
            f"The inputs have different lengths ({sizes}); the first size of all must be the same",
            param="inputs",
        )
    rows = zip(*columns.values(), strict=True)
    return [{name: _field(value) for name, value in zip(columns, row, strict=True)} for row in rows]


def _field(text: str) -> Any:
    """A text, unless it is a list or an object in JSON."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _only(tensors: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    found = [tensor.name for tensor in tensors]
    if len(found) != 1 or found[0] not in names:
        raise InvalidRequest(
            f"The inputs are {', '.join(found)}; the model takes {' or '.join(names)}, one of them",
            param="inputs",
        )
    return tensors[0]


def _elements(tensor: Tensor) -> list[str | bytes]:
    """Of one column: a shape of [n] or [n, 1]."""
    if tensor.datatype != BYTES:
        raise InvalidRequest(
            f"{tensor.name} is of datatype {tensor.datatype}; it must be BYTES", param=tensor.name
        )
    is_column = len(tensor.shape) == 1 or (len(tensor.shape) == _MATRIX and tensor.shape[1] == 1)
    if not is_column or not tensor.size:
        raise InvalidRequest(
            f"{tensor.name} has the shape {list(tensor.shape)}; it must be [n] or [n, 1] with at "
            "least one element",
            param=tensor.name,
        )
    return list(tensor.values)


def _strings(tensor: Tensor) -> list[str]:
    try:
        return [value if isinstance(value, str) else value.decode() for value in _elements(tensor)]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{tensor.name} has bytes that are not UTF-8: {error.reason}", param=tensor.name
        ) from error


def _token_lists(tensor: Tensor) -> list[tuple[int, ...]]:
    """Rows of token ids: a shape of [tokens] or [n, tokens]."""
    if tensor.datatype not in INTEGERS:
        raise InvalidRequest(
            f"{tensor.name} is of datatype {tensor.datatype}; it must be an integer",
            param=tensor.name,
        )
    if len(tensor.shape) > _MATRIX or not tensor.size:
        raise InvalidRequest(
            f"{tensor.name} has the shape {list(tensor.shape)}; it must be [tokens] or "
            "[n, tokens] with at least one token",
            param=tensor.name,
        )
    rows = np.asarray(tensor.values).reshape(-1, tensor.shape[-1])
    return [tuple(row) for row in rows.tolist()]
